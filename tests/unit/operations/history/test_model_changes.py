"""Files are grouped by model, and compared as one if that is possible."""

from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.shards import models_of
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.history.model_changes import Models
from git_theta_ext.operations.maintenance.disk_usage import Share, VersionShare, by_model

ONE, TWO = "run/model-00001-of-00002.bin", "run/model-00002-of-00002.bin"
MODELS = Models(tuple(models_of([ONE, TWO, "other.bin"])), {})


def manifest(kind="safetensors", **values):
    parameters = {n: Parameter(TensorSpec.of("F32", (4,)), Digest(f"{value:064x}")) for n, value in values.items()}
    return Manifest(kind, Skeleton(Digest("0" * 64), 9), parameters)


def test_a_single_file_keeps_its_name():
    assert MODELS.names([TWO, "other.bin", ONE]) == {"run/model.bin": [TWO, ONE], "other.bin": ["other.bin"]}
    assert MODELS.names([TWO, "unknown.bin"]) == {TWO: [TWO], "unknown.bin": ["unknown.bin"]}


def test_what_moved_between_files_is_one_change():
    old = {ONE: manifest(x=1, y=2), TWO: manifest(z=3), "other.bin": manifest(x=1)}
    new = {ONE: manifest(x=1), TWO: manifest(y=2, z=3), "other.bin": manifest(x=1)}
    (found,) = MODELS.changed(old, new)
    assert [change.path for change in found.files] == [ONE, TWO]
    assert [change.path for change in found.changes] == ["run/model.bin"]
    assert list(found.whole.diff.moved) == ["y"]


def test_files_of_the_same_names_and_single_files_are_shown_by_themselves():
    chunks = {ONE: manifest("opaque", a=1), TWO: manifest("opaque", a=2)}
    (found,) = MODELS.changed({}, chunks)
    assert found.whole is None
    assert [change.path for change in found.changes] == [ONE, TWO]
    (found,) = MODELS.changed({"other.bin": manifest(x=1)}, {"other.bin": None, TWO: None})
    assert [change.path for change in found.changes] == ["other.bin"]


def test_disk_usage_is_added_up_by_commit():
    versions = [
        VersionShare(path, commit, 5, 10, Share(path, 1, 10, 4, 0)) for commit in ("a", "b") for path in (ONE, TWO)
    ]
    found = by_model([*versions, versions[0]][:3], {ONE: "run/model.bin", TWO: "run/model.bin"})
    assert [(model.path, len(model.files), model.raw, model.new.stored) for model in found] == [
        ("run/model.bin", 2, 20, 8),
        ("run/model.bin", 1, 10, 4),
    ]
