"""The data model of a diff: kinds of changes, groups of them, and their order."""

import math

import pytest

from git_theta_ext.comparison.changes import Kind, ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.distance import Distance, combined
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec


def parameter(number, kind="F32", shape=(4, 4)):
    return Parameter(TensorSpec.of(kind, shape), Digest(f"{number:064x}"))


def change(old, new, distances=None):
    one, two = (Manifest("safetensors", Skeleton(Digest("0" * 64), 9), side) for side in (old, new))
    return ModelChange("m", compare(one, two), distances or {})


def test_structure_comes_first_and_then_what_moved_most():
    old = {"a": 1, "b": 2, "c": 3, "cast": 4, "shape": 5, "was": 6, "gone": 7}
    new = {
        **{name: parameter(number + 100) for number, name in enumerate("abc")},
        "cast": parameter(20, "BF16"),
        "shape": parameter(21, shape=(5, 4)),
        "now": parameter(6),
        "added": parameter(22),
    }
    near = {name: Distance(16, 16, moved, 1.0, 1.0) for name, moved in (("a", 0.1), ("b", math.nan), ("c", 0.3))}
    found = change({name: parameter(number) for name, number in old.items()}, new, near)
    names = [group.label for group in found.groups()]
    assert names == ["gone", "added", "now", "cast", "shape", "b", "c", "a"]
    flags = {each.name: (each.reshaped, each.recast) for each in found.changes if each.kind is Kind.MODIFIED}
    assert flags["cast"] == (False, True)
    assert flags["shape"] == (True, False)
    assert flags["a"] == (False, False)


def test_a_group_is_measured_as_one_tensor():
    old = {f"layers.{n}.w": parameter(n) for n in range(2)}
    new = {name: parameter(n + 100) for n, name in enumerate(old)}
    near = {name: Distance(16, 4, 3.0 + n, 6.0 + 2 * n, 1.0, 0.5 * n, flips=n) for n, name in enumerate(old)}
    (group,) = change(old, new, near).groups()
    assert group.label == "layers.{0-1}.w"
    assert (group.distance.norm, group.distance.norm_old, group.distance.relative) == (5.0, 10.0, 0.5)
    assert (group.distance.share, group.distance.largest, group.distance.flips) == (0.25, 0.5, 1)


@pytest.mark.parametrize(
    ("new", "norm", "cosine"),
    [((1.0, 0.0), 0.0, 1.0), ((0.0, 1.0), math.sqrt(2), 0.0), ((-2.0, 0.0), 3.0, -1.0), ((0.0, 0.0), 1.0, None)],
)
def test_the_cosine_follows_from_three_norms(new, norm, cosine):
    found = Distance(2, 2, norm, 1.0, math.hypot(*new)).cosine
    assert found == (None if cosine is None else pytest.approx(cosine, abs=1e-12))


def test_the_cosine_of_nearly_equal_tensors_does_not_cancel():
    assert 1 - Distance(2, 1, 1e-5, 1.0, math.hypot(1.0, 1e-5)).cosine == pytest.approx(5e-11, rel=1e-3)


def test_nothing_known_and_types_without_arithmetic_have_no_norm():
    assert combined([]) is None
    both = combined([Distance(4, 1), Distance(4, 0)])
    assert (both.elements, both.changed, both.relative, both.cosine, both.largest) == (8, 1, None, None, None)
    assert math.isnan(combined([Distance(1, 1, math.inf, 1.0, 1.0), Distance(1, 1, math.nan, 1.0, 1.0)]).norm)
