"""A side that only changed the element type changed no value: the other side's change is taken in that type."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.casts import find_casts
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules

A = np.float32([1 / 3, 2 / 3, 1])
TRAINED = np.float32([0.1, 0.2, 0.3])
OTHER = np.float32([7, 8, 9])
INTEGERS = np.int64([1, 2, 3])
HALF, TRAINED_HALF = A.astype("<f2"), TRAINED.astype("<f2")

pytestmark = pytest.mark.usefixtures("composing")


def merged(bench, base, *sides, method="average"):
    manifests = [bench.manifest({} if value is None else {"w": value}) for value in (base, *sides)]
    before, others = manifests[0], manifests[1:]
    planned = plan(before, others, Rules.only(method), casts=find_casts(bench.store, before, others))
    return planned.decisions[0], apply(planned, bench.store)


@pytest.mark.parametrize("method", ["average", "conflict", "ours", "ties", "apply"])
@pytest.mark.parametrize("swapped", [False, True])
def test_what_the_other_side_trained_is_taken_whole_in_the_new_type(bench, method, swapped):
    sides = (TRAINED, HALF) if swapped else (HALF, TRAINED)
    decision, outcome = merged(bench, A, *sides, method=method)
    assert (decision.action, decision.source) == ("cast", "ours" if swapped else "theirs")
    assert decision.state == f"changed by {decision.source}, cast to F16 by {'theirs' if swapped else 'ours'}"
    found = outcome.manifest.parameters["w"]
    assert (found.spec.dtype.name, outcome.taken, outcome.conflicts) == ("F16", 1, 0)
    assert bytes(bench.store.read(found.digest, found.spec)) == TRAINED_HALF.tobytes()
    assert "F16" in outcome.notes[0]


def test_a_wider_type_is_a_cast_too(bench):
    _, outcome = merged(bench, HALF, HALF.astype("<f4"), TRAINED_HALF)
    found = outcome.manifest.parameters["w"]
    assert bytes(bench.store.read(found.digest, found.spec)) == TRAINED_HALF.astype("<f4").tobytes()


def test_what_the_other_side_trained_and_cast_alike_is_taken_as_it_is(bench):
    decision, _ = merged(bench, A, HALF, TRAINED_HALF)
    assert (decision.action, decision.source, decision.into) == ("take", "theirs", None)


def test_what_was_trained_and_cast_is_no_cast(bench):
    decision, outcome = merged(bench, A, TRAINED_HALF, OTHER)
    assert decision.action == "compute"
    assert "into our F16" in outcome.notes[0]


def test_casts_to_different_types_are_a_conflict(bench):
    decision, _ = merged(bench, A, HALF, A.astype("<f8"))
    assert (decision.action, decision.state) == ("conflict", "the sides changed the element type to F16 and F64")


def test_of_several_that_trained_the_mean_is_in_the_type_that_another_cast_to(bench):
    decision, outcome = merged(bench, A, HALF, TRAINED, OTHER)
    assert (decision.action, decision.changed_by) == ("compute", (1, 2))
    found = outcome.manifest.parameters["w"]
    assert found.spec.dtype.name == "F16"
    assert bytes(bench.store.read(found.digest, found.spec)) == ((TRAINED + OTHER) / 2).astype("<f2").tobytes()


def test_a_cast_and_a_deletion_are_a_conflict(bench):
    assert merged(bench, A, HALF, None)[0].action == "conflict"


def test_values_that_are_not_here_leave_a_conflict_that_says_so(bench):
    manifests = [bench.manifest({"w": value}) for value in (A, HALF, TRAINED)]
    from git_theta_ext.store.memory import MemoryStore

    casts = find_casts(MemoryStore(), manifests[0], manifests[1:])
    (decision,) = plan(manifests[0], manifests[1:], Rules.only(), casts=casts).decisions
    assert decision.action == "conflict"
    assert decision.state.startswith("cannot tell whether a side only changed the element type: tensor")


def test_values_that_do_not_fit_the_new_type_leave_a_conflict(bench):
    _, outcome = merged(bench, A, HALF, np.float32([1e6, 0, 0]))
    assert [conflict.reason.text for conflict in outcome.manifest.conflicts] == ["not all values fit F16"]


def test_many_parameters_are_one_note(bench):
    base, ours, theirs = (bench.manifest({f"w{n}": v for n in range(5)}) for v in (A, HALF, TRAINED))
    casts = find_casts(bench.store, base, (ours, theirs))
    outcome = apply(plan(base, (ours, theirs), Rules.only(), casts=casts), bench.store)
    assert len(outcome.notes) == 1
    assert outcome.notes[0].startswith("'w0' and 4 more: the change is taken as F16")


class TestAppliedChanges:
    def test_the_element_type_that_one_side_changed_to_is_the_result_s(self, bench):
        decision, outcome = merged(bench, A, OTHER, TRAINED_HALF, method="apply")
        assert decision.action == "apply"
        found = outcome.manifest.parameters["w"]
        exact = OTHER.astype("f8") + (TRAINED_HALF.astype("f8") - A)
        assert bytes(bench.store.read(found.digest, found.spec)) == exact.astype("<f2").tobytes()

    @pytest.mark.parametrize(
        ("base", "sides", "words"),
        [
            (None, (A, OTHER), "added by both, differently"),
            (A, (None, OTHER), "deleted by ours, changed by theirs"),
            (A, (A[:2], OTHER), "shapes differ"),
            (A, (OTHER, TRAINED, 2 * A), "changed by 3 sides"),
            (INTEGERS, (INTEGERS + 1, INTEGERS + 2), "I64 values are not merged by arithmetic"),
        ],
    )
    def test_what_cannot_be_applied_is_a_conflict_that_says_why(self, bench, base, sides, words):
        decision, _ = merged(bench, base, *sides, method="apply")
        assert decision.action == "conflict"
        assert words in decision.state

    def test_nothing_of_torch_is_loaded(self, bench, monkeypatch):
        monkeypatch.setattr("git_theta_ext.merging.apply.Engine", None)
        assert merged(bench, A, OTHER, TRAINED, method="apply")[1].computed == {"apply": 1}

    def test_factors_of_a_lora_are_a_conflict(self, bench):
        versions = [
            {"q.lora_A.weight": np.float32([[n, 1]]), "q.lora_B.weight": np.float32([[1], [n]])} for n in range(3)
        ]
        base, *sides = (bench.manifest(version) for version in versions)
        found = plan(base, sides, Rules.only("apply")).decisions
        assert {decision.action for decision in found} == {"conflict"}
        assert "cannot be applied to another" in found[0].state


def test_conversions_by_either_side_have_one_note_for_each_type(bench):
    versions = [{"v": A, "w": A, "x": A}, {"v": HALF, "w": TRAINED, "x": HALF}, {"v": TRAINED, "w": HALF, "x": OTHER}]
    before, *sides = map(bench.manifest, versions)
    outcome = apply(
        plan(before, sides, Rules.only("average"), casts=find_casts(bench.store, before, sides)), bench.store
    )
    note = "'v' and 2 more: the change is taken as F16: another side only changed the element type"
    assert list(outcome.notes) == [note]
