"""The updates of LoRAs are compared through their factors, and the numbers are those of the products."""

import math

import numpy as np
import pytest

from git_theta_ext.comparison.changes import Kind, ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.lora_updates import Factors, LoraChange, LoraUpdate, are_factors, compare_updates
from git_theta_ext.comparison.schema import to_json
from git_theta_ext.comparison.screen import Screen
from git_theta_ext.comparison.text import render
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec

A, B = "layers.0.q.lora_A.weight", "layers.0.q.lora_B.weight"
DRAWN = np.random.default_rng(0)


def draw(*shape):
    return DRAWN.normal(size=shape).astype("<f4")


def factors(a, b, scale=None, alpha=None):
    specs = (TensorSpec.of("F32", matrix.shape) for matrix in (a, b))
    return Factors(*specs, a.tobytes(), b.tobytes(), alpha, scale)


def product(a, b, scale=1.0):
    return scale * b.astype("f8").reshape(b.shape[:2]) @ a.astype("f8").reshape(a.shape[0], -1)


@pytest.mark.parametrize(
    ("old", "new", "rank"),
    [
        ((draw(4, 90), draw(70, 4), 2.0), (draw(4, 90), draw(70, 4), 2.0), 8),
        ((draw(4, 90), draw(70, 4), 2.0), (draw(6, 90), draw(70, 6), 0.5), 10),
        ((draw(4, 3, 3, 3), draw(5, 4, 1, 1), 1.0), (draw(2, 3, 3, 3), draw(5, 2, 1, 1), -3.0), 5),
        ((draw(4, 200_000), draw(3, 4), 1.0), (draw(4, 200_000), draw(3, 4), 1.0), 3),
    ],
)
def test_norms_and_ranks_are_those_of_the_products(old, new, rank):
    found = compare_updates(factors(*old), factors(*new))
    before, after = product(*old), product(*new)
    assert found.norm == pytest.approx(np.linalg.norm(after - before), rel=1e-12)
    assert (found.old.norm, found.new.norm) == pytest.approx((np.linalg.norm(before), np.linalg.norm(after)), rel=1e-12)
    assert found.rank == rank
    assert found.relative == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before))


def test_a_small_change_of_one_factor_keeps_the_rank_and_its_precision():
    a, b = draw(8, 300), draw(200, 8)
    changed = b + np.float32(1e-5) * draw(200, 8)
    found = compare_updates(factors(a, b, 2.0), factors(a, changed, 2.0))
    assert (found.rank, found.energy_rank) == (8, 8)
    wanted = np.linalg.norm(product(a, changed, 2.0) - product(a, b, 2.0))
    assert found.norm == pytest.approx(wanted, rel=1e-9)


def test_few_directions_hold_most_of_a_change():
    a, b = np.eye(4, 50, dtype="<f4"), np.zeros((60, 4), "<f4")
    new = b.copy()
    new[0, 0], new[1, 1] = 100, 1
    found = compare_updates(factors(a, b), factors(a, new))
    assert (found.rank, found.energy_rank) == (2, 1)
    assert found.relative == math.inf


def test_the_same_update_by_other_factors_did_not_change():
    a, b = np.eye(3, 8, dtype="<f4"), draw(7, 3)
    found = compare_updates(factors(a, b, 1.0), factors(4 * a, b / 4, 1.0))
    assert (found.rank, found.energy_rank) == (0, 0)
    assert found.norm == pytest.approx(0, abs=1e-13)


def test_products_are_compared_without_scales_if_one_is_unknown():
    a, b = draw(2, 8), draw(7, 2)
    found = compare_updates(factors(a, b, 4.0), factors(a, b))
    assert (found.old.scale, found.scaled, found.relative) == (None, False, pytest.approx(0, abs=1e-13))


def test_nan_has_no_rank():
    a, b = draw(2, 8), draw(7, 2)
    broken = a.copy()
    broken[1, 3] = math.nan
    found = compare_updates(factors(a, b), factors(broken, b))
    assert math.isnan(found.norm)
    assert (found.rank, found.energy_rank) == (None, None)


def test_weights_of_other_shapes_are_not_compared():
    assert compare_updates(factors(draw(2, 8), draw(7, 2)), factors(draw(2, 9), draw(7, 2))) is None
    assert compare_updates(None, None) is None


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ((4, 9), (7, 4), True),
        ((4, 9), (7, 5), False),
        ((4, 9, 3, 3), (7, 4, 1, 1), True),
        ((4, 9, 3, 3), (7, 4, 3, 3), False),
        ((4,), (4, 4), False),
        ((0, 9), (7, 0), False),
        ((2048, 9), (7, 2048), False),
        ((4, 1 << 24), (1 << 24, 4), False),
    ],
)
def test_only_plain_factors_of_limited_size_are_read(first, second, wanted):
    assert are_factors(TensorSpec.of("F64", first), TensorSpec.of("F64", second)) is wanted
    assert not are_factors(TensorSpec.of("I64", first), TensorSpec.of("F64", second))


def manifest(number):
    spec = TensorSpec.of("F32", (4, 4))
    parameters = {name: Parameter(spec, Digest(f"{number + i:064x}")) for i, name in enumerate((A, B))}
    return Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters)


def change(old, new, **update):
    diff = compare(manifest(old), manifest(new))
    fields = {"norm": 0.5, "rank": 7, "energy_rank": 3, **update}
    sides = LoraUpdate(4, 8.0, 2.0, 10.0), LoraUpdate(4, 16.0, 4.0, 10.2)
    units = diff.units or compare(None, manifest(old)).units
    updated = diff.__class__(**{**diff.__dict__, "units": units, "updates": {A: LoraChange(*sides, **fields)}})
    return ModelChange("adapter_model.safetensors", updated)


def test_a_lora_is_one_change_with_the_numbers_of_its_update():
    shown = change(1, 9)
    assert [(one.name, one.kind) for one in shown.changes] == [("layers.0.q", Kind.MODIFIED)]
    assert render(shown, Screen()).splitlines()[2] == (
        "~ layers.0.q  LoRA, rank 4, alpha 8 -> 16, scale 2 -> 4  modified"
        "  rel. change 5.0e-02, norm 1.0e+01 -> 1.0e+01, change of rank 7 (99.9 % in 3)"
    )
    data = to_json(shown)
    assert data["units"][0]["update"]["old"] == {"rank": 4, "alpha": 8.0, "scale": 2.0, "norm": 10.0}
    assert (data["groups"][0]["stats"]["relative"], data["groups"][0]["stats"]["rank"]) == (0.05, 3)


def test_a_lora_of_which_only_the_scale_differs_is_shown():
    shown = change(1, 1)
    assert not shown.diff.empty
    assert "alpha 8 -> 16" in render(shown, Screen())
    assert to_json(shown)["groups"][0]["parameters"] == [A, B]
