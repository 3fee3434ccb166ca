"""Changes of pieces are changes of tensors."""

import pytest

from git_theta_ext.comparison.changed_names import changed_names
from git_theta_ext.comparison.changed_pieces import by_tensor
from git_theta_ext.model.manifest_lines import ManifestLines, changed_lines, name_of


def lines(pieces):
    """Return the lines of a manifest; pieces are name to number of elements and digest."""
    rows = [f'"{name}"\tF32\t[{count}]\t{digest * 64}'.encode() for name, (count, digest) in sorted(pieces.items())]
    return ManifestLines([b"", b"", b""], rows, [])


def changed(old, new):
    files = [changed_lines(lines(new), [lines(old)])]
    return by_tensor(changed_names(files), files, [name_of(line) for line in lines(new).parameters])


HALVES = {"w[0:2]": (2, "a"), "w[2:4]": (2, "b"), "b": (1, "0")}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({"w[0:2]": (2, "a"), "w[2:4]": (2, "c")}, {"modified": ("w",)}),
        ({"w": (4, "c")}, {"resharded": ("w",)}),
        ({"w[0:1]": (1, "c"), "w[1:4]": (3, "d")}, {"resharded": ("w",)}),
        ({"w[0:2]": (2, "a"), "w[2:3]": (1, "c"), "w[3:4]": (1, "d")}, {"resharded": ("w",)}),
        ({"w[0:2]": (2, "c"), "w[2:3]": (1, "b"), "w[3:4]": (1, "d")}, {"modified": ("w",)}),
        ({"w[0:3]": (3, "c"), "w[3:6]": (3, "d")}, {"modified": ("w",)}),
        ({"v[0:2]": (2, "c"), "v[2:4]": (2, "d")}, {"added": ("v",), "removed": ("w",)}),
        ({"w[0:1]": (1, "b"), "w[1:4]": (3, "a")}, {"resharded": ("w",)}),
        ({}, {"removed": ("w",)}),
    ],
)
def test_a_tensor_in_other_pieces_of_its_size_is_resharded(new, expected):
    found = changed(HALVES, {"b": (1, "0"), **new})
    kinds = {kind: getattr(found, kind) for kind in ("added", "removed", "modified", "resharded")}
    assert {kind: names for kind, names in kinds.items() if names} == expected
    assert (found.unchanged, dict(found.renamed)) == (1, {})
    assert not found.empty


def test_a_tensor_that_is_whole_may_be_renamed():
    found = changed({"w": (4, "a"), "b": (1, "0")}, {"v": (4, "a"), "b": (1, "0")})
    assert (dict(found.renamed), found.added, found.removed) == ({"v": "w"}, (), ())
