from git_theta_ext.comparison.compare import ParameterVersions, Rename, compare
from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import Conflict
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec


def parameter(number, kind="F32", shape=(4,)):
    return Parameter(TensorSpec.of(kind, shape), Digest(f"{number:064x}"))


def manifest(parameters, skeleton=0, kind="safetensors", conflicts=()):
    return Manifest(kind, Skeleton(Digest(f"{skeleton:064x}"), 9), parameters, None, conflicts)


A, B, C = (parameter(n) for n in range(3))


def test_equal_manifests_differ_in_nothing():
    diff = compare(manifest({"a": A}), manifest({"a": A}))
    assert diff.empty
    assert len(diff.unchanged) == 1


def test_each_parameter_is_reported_once():
    diff = compare(manifest({"a": A, "b": B, "gone": C}), manifest({"a": A, "b": C, "new": parameter(9)}))
    assert dict(diff.added) == {"new": parameter(9)}
    assert dict(diff.removed) == {"gone": C}
    assert dict(diff.modified) == {"b": ParameterVersions(B, C)}
    assert len(diff.unchanged) == 1
    assert not diff.empty


def test_a_parameter_that_kept_its_value_was_renamed():
    diff = compare(manifest({"old": A, "x": B}), manifest({"new": A, "x": B}))
    assert dict(diff.renamed) == {"new": Rename("old", A)}
    assert not diff.added
    assert not diff.removed


def test_equal_values_under_several_names_are_paired_one_to_one():
    diff = compare(manifest({"a": A, "b": A}), manifest({"c": A, "d": A, "e": A}))
    assert {name: rename.old_name for name, rename in diff.renamed.items()} == {"c": "a", "d": "b"}
    assert list(diff.added) == ["e"]


def test_bytes_count_only_values_the_older_version_lacks():
    diff = compare(manifest({"a": A, "b": B}), manifest({"a": B, "b": A, "c": C}))
    assert (diff.fresh, diff.fresh_bytes, diff.total, diff.total_bytes) == (1, 16, 3, 48)


def test_a_new_checkpoint_is_all_added_and_a_deleted_one_all_removed():
    new, gone = compare(None, manifest({"a": A})), compare(manifest({"a": A}), None)
    assert (list(new.added), new.old_format, new.fresh) == (["a"], None, 1)
    assert (list(gone.removed), gone.new_format, gone.fresh, gone.total) == (["a"], None, 1, 1)


def test_a_change_of_order_or_metadata_is_a_change():
    diff = compare(manifest({"a": A}), manifest({"a": A}, skeleton=1))
    assert diff.layout_changed
    assert not diff.empty


def test_conflicts_of_the_newer_version_are_reported():
    conflict = Conflict("a", Reason("changed by both"), A, (B, C))
    diff = compare(manifest({"a": B}), manifest({"a": B}, conflicts=(conflict,)))
    assert diff.conflicts == (conflict,)
    assert not diff.empty
