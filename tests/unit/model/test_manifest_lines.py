"""Manifests of a history are compared line by line."""

import pytest

from git_theta_ext.comparison.changed_names import changed_names
from git_theta_ext.errors import ManifestError
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.manifest_lines import ManifestLines, changed_lines, name_and_bytes
from git_theta_ext.model.tensor import Digest, TensorSpec


def lines(kind="F32", **values):
    spec = TensorSpec.of(kind, (4,))
    parameters = {name: Parameter(spec, Digest(f"{values[name]:064x}")) for name in sorted(values)}
    return ManifestLines.of(Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters).to_bytes())


def names(new, *old, chosen=None):
    return changed_names([changed_lines(new, old)], chosen)


def test_only_other_digests_are_modified():
    found = names(lines(a=1, b=2, c=3), lines(a=1, b=7, c=3))
    assert (found.modified, found.added, found.removed, found.unchanged, found.nbytes) == (("b",), (), (), 2, 16)
    assert names(lines(a=1), lines(a=1)).empty


def test_another_type_is_a_modification_and_other_names_are_not():
    found = names(lines("F16", a=1), lines(a=2, b=3))
    assert (found.modified, found.removed, found.nbytes) == (("a",), ("b",), 8)
    found = names(lines(a=1, c=5), lines(a=1, b=3))
    assert (found.added, found.removed, found.modified) == (("c",), ("b",), ())


def test_equal_values_under_other_names_are_renamed():
    found = names(lines(a=1, z=3, y=4), lines(a=1, b=3, c=5))
    assert (dict(found.renamed), found.added, found.removed, found.nbytes) == ({"z": "b"}, ("y",), ("c",), 16)


def test_a_merge_changed_what_no_parent_has():
    found = names(lines(a=1, b=2, c=9), lines(a=1, b=5, c=3, gone=1), lines(a=4, b=2, c=4, gone=1))
    assert (found.modified, found.removed, found.unchanged) == (("c",), ("gone",), 2)
    # A side that removed a parameter, or added one, did that in a commit of its own.
    found = names(lines(a=1, b=2), lines(a=1, gone=1), lines(a=1, b=2))
    assert found.empty


def test_files_appear_and_disappear():
    assert names(lines(a=1, b=2)).added == ("a", "b")
    assert names(None, lines(a=1, b=2)).removed == ("a", "b")


def test_parameters_move_between_the_files_of_a_model():
    files = [changed_lines(lines(a=1), [lines(a=1, b=2, c=3)]), changed_lines(lines(b=2, c=4, d=5), [lines(d=5)])]
    found = changed_names(files)
    assert (found.moved, found.modified, found.unchanged, found.nbytes) == (1, ("c",), 2, 16)
    assert not found.empty


def test_a_choice_of_names_leaves_the_others_out():
    found = names(lines(a=1, b=2), lines(a=3, b=4), chosen="b".__eq__)
    assert (found.modified, found.nbytes) == (("b",), 16)
    found = names(lines(a=1, z=4, y=9), lines(a=3, b=4), chosen=lambda name: name in "zb")
    assert (found.modified, dict(found.renamed), found.added, found.removed) == ((), {"z": "b"}, (), ())


@pytest.mark.parametrize("data", [b"", b"git-theta manifest 1\n", b"text\n" * 9, b"git-theta manifest 1\na\nb\nc"])
def test_other_files_have_no_lines(data):
    with pytest.raises(ManifestError):
        ManifestLines.of(data)


@pytest.mark.parametrize(
    "columns", [b"", b'"a"\tF32', b"a\tF32\t[1]", b'"a"\tF32\t[x]', b'"a"\tF99\t[1]', b'"\xff"\tF32\t[1]']
)
def test_broken_lines_are_refused(columns):
    with pytest.raises(ManifestError):
        name_and_bytes(columns)
