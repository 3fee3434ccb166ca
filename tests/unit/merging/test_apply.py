import subprocess
import sys

import numpy as np
import pytest

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.conflict_reasons import ConflictCode
from git_theta_ext.model.manifest import Manifest

A, B, C = [1.0, 2.0], [3.0, 4.0], [5.0, 8.0]


def merged(bench, base, ours, theirs, method="average"):
    outcome = apply(plan(base, (ours, theirs), Rules.only(method)), bench.store)
    assert Manifest.parse(outcome.manifest.to_bytes()) == outcome.manifest
    return outcome


def test_both_branches_changes_are_in_the_result(bench):
    base = bench.manifest({"both": A, "mine": A, "yours": A, "kept": A})
    ours = bench.manifest({"both": B, "mine": B, "yours": A, "kept": A})
    theirs = bench.manifest({"both": C, "mine": A, "yours": C, "kept": A})
    outcome = merged(bench, base, ours, theirs)
    found = {name: bench.values(parameter) for name, parameter in outcome.manifest.parameters.items()}
    assert found == {"both": [4, 6], "mine": B, "yours": C, "kept": A}
    assert (outcome.taken, outcome.computed, outcome.conflicts) == (2, {"average": 1}, 0)
    assert outcome.manifest.skeleton == base.skeleton


def test_swapping_the_sides_gives_the_same_parameters(bench):
    rng = np.random.default_rng(2)
    base, ours, theirs = (bench.manifest({"w": rng.normal(size=(30, 3)).astype(np.float32)}) for _ in range(3))
    one, two = merged(bench, base, ours, theirs), merged(bench, base, theirs, ours)
    assert one.manifest == two.manifest


def test_a_merge_that_computes_nothing_loads_no_torch_and_reads_no_tensor(tmp_path):
    script = """
import sys
from pathlib import Path
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.store import Store
made = lambda a, b: Manifest("safetensors", Skeleton("0" * 64, 9), {
    name: Parameter(TensorSpec.of("F32", (2,)), digit * 64) for name, digit in (("a", a), ("b", b))})
outcome = apply(plan(made("1", "1"), (made("2", "1"), made("1", "2")), Rules.only()), Store(Path(sys.argv[1])))
assert outcome.manifest == made("2", "2")
assert not {"torch", "numpy"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "theta")], check=True)


@pytest.mark.parametrize(("bad", "words"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite")])
def test_values_that_are_not_finite_end_as_a_conflict_with_ours_in_place(bench, bad, words):
    base, ours, theirs = (bench.manifest({"w": value, "v": value}) for value in (A, B, C))
    broken = bench.manifest({"w": [1.0, bad], "v": C})
    outcome = merged(bench, base, ours, broken)
    (conflict,) = outcome.manifest.conflicts
    assert conflict.name == "w"
    assert words in conflict.reason.text
    assert "theirs" in conflict.reason.text
    assert (conflict.base, *conflict.sides) == tuple(side.parameters["w"] for side in (base, ours, broken))
    assert outcome.manifest.parameters["w"] == ours.parameters["w"]
    assert bench.values(outcome.manifest.parameters["v"]) == [4, 6]
    assert theirs.parameters["v"] == broken.parameters["v"]


def test_values_that_are_missing_end_as_a_conflict(bench, tmp_path):
    other = type(bench)(tmp_path / "elsewhere")
    theirs = other.manifest({"w": C})
    other.store.close()
    outcome = merged(bench, bench.manifest({"w": A}), bench.manifest({"w": B}), theirs)
    assert "not in the store" in outcome.manifest.conflicts[0].reason.text


def test_a_conflict_over_a_deletion_stands_at_ours(bench):
    base, changed = (bench.manifest({"k": A, "w": value}, kind="npz") for value in (A, B))
    gone = bench.manifest({"k": A}, kind="npz")
    assert "w" in merged(bench, base, changed, gone).manifest.parameters
    assert "w" not in merged(bench, base, gone, changed).manifest.parameters


def test_mixed_element_types_are_noted(bench):
    outcome = merged(
        bench, bench.manifest({"w": A}), bench.manifest({"w": np.float16([2, 4])}), bench.manifest({"w": C})
    )
    assert outcome.manifest.parameters["w"].spec.dtype.name == "F16"
    assert bench.values(outcome.manifest.parameters["w"], np.float16) == [3.5, 6]
    assert "'w'" in outcome.notes[0]


class TestLayout:
    @pytest.mark.usefixtures("composing")
    def test_a_format_that_can_lays_out_what_both_added(self, bench):
        base = bench.manifest({"w": A})
        ours, theirs = bench.manifest({"w": A, "x": B}), bench.manifest({"w": A, "y": C})
        outcome = merged(bench, base, ours, theirs)
        assert outcome.conflicts == 0
        assert bench.layout(outcome.manifest).parameters == {n: p.spec for n, p in outcome.manifest.parameters.items()}

    def test_one_that_cannot_leaves_a_conflict_of_the_layout(self, bench):
        base = bench.manifest({"w": A}, kind="npz")
        sides = bench.manifest({"w": A, "x": B}, kind="npz"), bench.manifest({"w": A, "y": C}, kind="npz")
        outcome = merged(bench, base, *sides)
        conflict = outcome.manifest.layout_conflict
        assert conflict.reason.code is ConflictCode.LAYOUT
        assert conflict.sides == (sides[0].skeleton, sides[1].skeleton)

    def test_one_that_cannot_falls_back_to_a_side_that_fits(self, bench):
        base = bench.manifest({"w": A}, kind="npz")
        ours = bench.manifest({"w": A, "x": A}, kind="npz")
        outcome = merged(bench, None, ours, base)
        assert outcome.manifest.skeleton == ours.skeleton
        assert outcome.manifest.layout_conflict is None

    def test_all_layouts_stay_at_hand_while_the_set_of_parameters_is_open(self, bench):
        base, changed = (bench.manifest({"k": A, "w": value}, kind="npz") for value in (A, B))
        gone = bench.manifest({"k": A}, kind="npz")
        outcome = merged(bench, base, changed, gone)
        assert outcome.manifest.layout_conflict.reason.code is ConflictCode.LAYOUT
