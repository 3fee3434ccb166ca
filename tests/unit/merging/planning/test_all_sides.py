"""Rules with ``sides: all``, which also decide what only some sides changed."""

from __future__ import annotations

import numpy as np
import pytest

import git_theta_ext
from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.file import read_rules

A, B = [1.0, 2.0], [3.0, 4.0]
INT = np.array([1, 2])


def decided(bench, rules, base, *sides):
    """Plan the merge of one parameter ``w``; None where a side lacks it."""
    made = [bench.manifest({"kept": [0.0]} | ({} if side is None else {"w": side})) for side in (base, *sides)]
    text = f"version: 1\ndefaults: {{{rules}}}\n".encode()
    return {decision.name: decision for decision in plan(made[0], made[1:], read_rules(text)).decisions}["w"]


@pytest.mark.parametrize("changed", [(0,), (1,), (0, 2)])
def test_all_sides_take_part_in_a_merge(bench, changed):
    sides = [B if number in changed else A for number in range(3)]
    found = decided(bench, "method: task_arithmetic, sides: all", A, *sides)
    assert (found.action, found.changed_by) == ("compute", (0, 1, 2))


def test_unchanged_parameters_are_not_computed(bench):
    assert decided(bench, "method: task_arithmetic, sides: all", A, A, A).action == "take"


@pytest.mark.parametrize("method", ["ours", "theirs", "base"])
def test_side_is_taken_for_all_parameters(bench, method):
    for ours, theirs in ((A, B), (B, A), (None, A), (A, None)):
        found = decided(bench, f"method: {method}, sides: all", A, ours, theirs)
        assert found.value == {"ours": found.sides[0], "theirs": found.sides[1], "base": found.base}[method]


def test_conflict_is_left_for_changes_by_one_side(bench):
    assert decided(bench, "method: conflict, sides: all", A, B, A).action == "conflict"
    assert decided(bench, "method: conflict", A, B, A).action == "take"


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        (None, B, None),
        (A, None, A),
        (INT, INT + 1, INT),
        (A, [1.0, 2.0, 3.0], A),
        (A, np.array(A, "f2"), A),
    ],
)
def test_what_a_method_cannot_merge_is_taken(bench, base, ours, theirs):
    found = decided(bench, "method: average, sides: all", base, ours, theirs)
    assert (found.action, found.source) == ("take", "ours")


def test_quantised_weights_stay_whole(bench):
    parts = {"l.qweight": ("I32", INT.astype("i4")), "l.scales": np.array(A, "f2")}
    base, ours = bench.manifest(parts), bench.manifest(parts | {"l.scales": np.array(B, "f2")})
    rules = read_rules(b"version: 1\ndefaults: {method: average, sides: all}\n")
    assert {decision.action for decision in plan(base, [ours, base], rules).decisions} == {"take"}


def test_result_is_that_of_the_papers_for_a_full_fine_tune_and_one_of_some_layers():
    torch = pytest.importorskip("torch")
    drawn = torch.Generator().manual_seed(1)
    base = {name: torch.randn(4, 4, generator=drawn) for name in ("q", "v", "mlp", "norm")}
    full = {name: value + torch.randn(4, 4, generator=drawn) for name, value in base.items()}
    lora = base | {name: base[name] + torch.randn(4, 4, generator=drawn) for name in ("q", "v")}
    merged = git_theta_ext.merge([full, lora], "task_arithmetic", base=base, lambda_=0.3, sides="all")
    for name, value in base.items():
        defined = value + 0.3 * ((full[name] - value) + (lora[name] - value))
        torch.testing.assert_close(merged[name], defined, rtol=1e-6, atol=1e-6)
    default = git_theta_ext.merge([full, lora], "task_arithmetic", base=base, lambda_=0.3)
    assert torch.equal(default["mlp"], full["mlp"])


def test_other_values_of_sides_are_errors():
    with pytest.raises(MergeError, match=r"line 2: 'sides' is \['all'\]"):
        read_rules(b"version: 1\ndefaults: {method: average, sides: [all]}\n")
