"""Models of several files are compared by parameter, and paired by name, by file or by a rename."""

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.models import compare_models
from git_theta_ext.comparison.schema import to_json
from git_theta_ext.comparison.screen import Screen
from git_theta_ext.comparison.text import render
from git_theta_ext.git.entries import TreeEntry
from git_theta_ext.git.raw_diff import FileChange
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.shard_index import ShardIndex
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.diff.grouping import pairs_of
from git_theta_ext.operations.diff.sides import Side
from git_theta_ext.operations.diff.trees import Tree


def manifest(skeleton=0, **values):
    parameters = {n: Parameter(TensorSpec.of("F32", (4,)), Digest(f"{value:064x}")) for n, value in values.items()}
    return Manifest("safetensors", Skeleton(Digest(f"{skeleton:064x}"), 9), parameters)


def version(**files):
    return ModelVersion({f"run/{name}.safetensors": content for name, content in files.items()})


def test_parameters_that_moved_are_not_removed_and_added():
    old = version(a=manifest(x=1, y=2), b=manifest(z=3))
    new = version(a=manifest(x=1), b=manifest(z=3, y=5, w=7))
    diff = compare_models(old, new)
    assert (list(diff.added), list(diff.removed), list(diff.modified), len(diff.unchanged)) == (["w"], [], ["y"], 2)
    assert list(diff.moved) == ["y"]
    lines = render(ModelChange("run/model", diff), Screen()).splitlines()
    assert lines[2] == "> 1 parameter moved between files"
    assert to_json(ModelChange("run/model", diff))["moved"] == [
        {"name": "y", "old_file": "run/a.safetensors", "new_file": "run/b.safetensors"}
    ]


def test_only_files_that_both_versions_have_show_a_changed_layout():
    one, two = version(a=manifest(x=1, y=2)), version(a=manifest(1, x=1), b=manifest(2, y=2))
    assert compare_models(one, two).layout_changed
    assert not compare_models(version(c=manifest(x=1, y=2)), two).layout_changed
    assert compare_models(one, one).empty
    assert not compare_models(one, two).empty


def test_whole_models_appear_and_disappear():
    new = version(a=manifest(x=1), b=manifest(y=2))
    assert "new model of 2 files (safetensors): 2 parameters" in render(
        ModelChange("m", compare_models(None, new)), Screen()
    )
    assert "deleted model of 2 files" in render(ModelChange("m", compare_models(new, None)), Screen())
    assert compare_models(None, None).empty


def tree(*paths, **indexes):
    side = Side(manifest(x=1))
    return Tree(dict.fromkeys(paths, side), {f"{n}.safetensors.index.json": index for n, index in indexes.items()})


def renamed(old, new):
    return FileChange(TreeEntry(old, "1" * 40, "100644"), TreeEntry(new, "1" * 40, "100644"))


def pairs(old, new, *changes):
    found = pairs_of(old, new, changes, {})
    return sorted((pair.old_name, pair.name, sorted(pair.old), sorted(pair.new)) for pair in found)


def test_one_file_and_its_shards_are_one_model():
    shards = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
    assert pairs(tree("m.safetensors"), tree(*shards)) == [
        ("m.safetensors", "m.safetensors", ["m.safetensors"], shards)
    ]


def test_files_that_an_index_joins_are_one_model_with_what_they_were():
    files = ["a.safetensors", "b.safetensors"]
    index = ShardIndex("", {"x": files[0], "y": files[1]}, {})
    assert pairs(tree(*files), tree(*files, m=index)) == [("a.safetensors", "m.safetensors", files, files)]


def test_renames_join_models_unless_one_of_them_is_on_both_sides():
    old, new = tree("a.safetensors"), tree("b.safetensors")
    change = renamed("a.safetensors", "b.safetensors")
    assert pairs(old, new, change) == [("a.safetensors", "b.safetensors", ["a.safetensors"], ["b.safetensors"])]
    both = tree("a.safetensors", "b.safetensors")
    assert pairs(both, new, change) == [
        ("a.safetensors", "a.safetensors", ["a.safetensors"], []),
        ("b.safetensors", "b.safetensors", ["b.safetensors"], ["b.safetensors"]),
    ]
