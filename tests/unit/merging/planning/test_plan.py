import numpy as np
import pytest

from git_theta_ext.errors import PluginError
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules, choice
from git_theta_ext.model.conflict_reasons import ConflictCode


def decided(bench, base, ours, theirs, method="average"):
    """Plan the merge of one parameter ``w``; None where a side lacks it. Another parameter stays the same."""
    sides = [bench.manifest({"kept": [0.0]} | ({} if side is None else {"w": side})) for side in (base, ours, theirs)]
    return {decision.name: decision for decision in plan(sides[0], sides[1:], Rules.only(method)).decisions}["w"]


A, B, C = [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]
INT = np.array([1, 2])


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "action", "source", "state"),
    [
        (A, A, A, "take", "ours", "unchanged"),
        (A, B, B, "take", "ours", "changed identically"),
        (A, B, A, "take", "ours", "changed by ours"),
        (A, A, B, "take", "theirs", "changed by theirs"),
        (None, B, None, "take", "ours", "added by ours"),
        (None, None, B, "take", "theirs", "added by theirs"),
        (None, B, B, "take", "ours", "changed identically"),
        (A, None, A, "take", "ours", "deleted by ours"),
        (A, A, None, "take", "theirs", "deleted by theirs"),
        (A, B, C, "compute", None, "changed by both"),
        (None, B, C, "conflict", None, "added by both, differently"),
        (A, None, B, "conflict", None, "deleted by ours, changed by theirs"),
        (A, B, None, "conflict", None, "changed by ours, deleted by theirs"),
        (INT, INT + 1, INT, "take", "ours", "changed by ours"),
    ],
)
def test_each_state_has_its_default(bench, base, ours, theirs, action, source, state):
    found = decided(bench, base, ours, theirs)
    assert (found.action, found.source, found.state) == (action, source, state)


def test_a_deletion_that_is_taken_leaves_no_value(bench):
    assert decided(bench, A, None, A).value is None


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (INT + 1, INT + 2, "I64"),
        (B, [[1.0, 2.0]], "shapes differ"),
        (np.array([1j, 2], np.complex64), B, "different kinds"),
        (("BOOL", np.array([1, 0], np.uint8)), ("BOOL", np.array([0, 1], np.uint8)), "BOOL"),
    ],
)
def test_what_arithmetic_cannot_settle_is_a_conflict_that_says_why(bench, ours, theirs, words):
    found = decided(bench, A, ours, theirs)
    assert found.action == "conflict"
    assert words in found.state


def test_different_element_types_are_merged_into_ours_with_a_note(bench):
    found = decided(bench, A, np.float16([3, 4]), C)
    assert found.action == "compute"
    assert found.value.spec.dtype.name == "F16"
    assert "F32" in found.note
    assert "F16" in found.note


@pytest.mark.parametrize("grow", [False, True])
def test_rows_that_each_side_appended_are_not_merged_with_each_other(bench, grow):
    base, *sides = (bench.manifest({"w": [[value]] * rows}) for rows, value in ((1, 0.0), (2, 1.0), (2, 2.0)))
    rules = Rules(choice("grow" if grow else "average"))
    (found,) = plan(base, sides, rules).decisions
    assert (found.action, "shape changed by both: F32 [1,1] became" in found.state) == ("conflict", True)
    (asked,) = plan(base, sides, rules, baseless=True).decisions
    assert asked.action == "compute"


@pytest.mark.parametrize("method", ["ours", "theirs", "base"])
@pytest.mark.parametrize("sides", [(A, B, C), (A, None, C), (A, B, None), (None, B, C), (INT, INT + 1, INT + 2)])
def test_a_side_settles_everything_both_changed(bench, method, sides):
    found = decided(bench, *sides, method)
    assert (found.action, found.source) == ("take", method)
    assert found.value == found.candidate(method)


def test_a_side_as_method_still_takes_what_only_the_other_changed(bench):
    assert decided(bench, A, A, B, "ours").source == "theirs"


def test_conflict_as_method_leaves_only_what_both_changed(bench):
    assert decided(bench, A, B, C, "conflict").action == "conflict"
    assert decided(bench, A, B, A, "conflict").action == "take"


def test_an_unknown_method_is_named_even_where_it_is_not_needed(bench):
    same = bench.manifest({"w": A})
    with pytest.raises(PluginError, match="no-such"):
        plan(same, (same, same), Rules.only("no-such"))


def test_one_sided_merges_read_no_tensor(bench):
    base = bench.manifest({"a": A, "b": A})
    planned = plan(base, (bench.manifest({"a": B, "b": A}), bench.manifest({"a": A, "b": C})), Rules.only())
    assert list(planned.reads()) == []


def test_only_the_branches_of_computed_parameters_are_read(bench):
    base, ours, theirs = (bench.manifest({"a": value, "b": other}) for value, other in [(A, A), (B, A), (C, B)])
    planned = plan(base, (ours, theirs), Rules.only())
    assert set(planned.reads()) == {ours.parameters["a"].digest, theirs.parameters["a"].digest}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (choice("task_arithmetic", {"lambda": 0.3}, origin="here"), "options and weights of task_arithmetic"),
        (choice("average", weights=[1, 9], origin="here"), "options and weights of average"),
        (choice("average", origin="here"), ""),
        (choice("ours", origin="here"), ""),
        (choice("ties"), ""),
    ],
    ids=lambda value: getattr(value, "words", ""),
)
def test_options_that_do_not_reach_what_one_side_changed_are_said(bench, asked, said):
    base = bench.manifest({"a": A, "b": A, "c": A})
    ours, theirs = bench.manifest({"a": B, "b": A, "c": A}), bench.manifest({"a": C, "b": B, "c": A})
    notes = plan(base, (ours, theirs), Rules(asked)).notes
    kept = "1 parameter changed on one side only and keeps that side's value; "
    assert [note.startswith(kept) and said in note and "sides=all" in note for note in notes] == [True] * bool(said)
    assert plan(base, (ours, base), Rules(asked)).notes == ()


class TestLayout:
    def test_one_sided_changes_are_taken(self, bench):
        base = bench.manifest({"w": A})
        other = bench.manifest({"w": A}, head=b"other")
        assert plan(base, (base, other), Rules.only()).layout.skeleton == other.skeleton
        assert plan(base, (other, base), Rules.only()).layout.skeleton == other.skeleton

    def test_an_added_parameter_brings_its_layout(self, bench):
        base, added = bench.manifest({"w": A}), bench.manifest({"w": A, "x": B})
        changed = bench.manifest({"w": B})
        planned = plan(base, (changed, added), Rules.only())
        assert (planned.layout.action, planned.layout.skeleton) == ("take", added.skeleton)

    def test_where_both_changed_it_ours_is_kept_and_said(self, bench):
        sides = [bench.manifest({"w": A}, head=head) for head in (b"base", b"ours", b"theirs")]
        layout = plan(sides[0], sides[1:], Rules.only()).layout
        assert (layout.action, layout.skeleton) == ("take", sides[1].skeleton)
        assert "ours" in layout.note

    def test_parameters_added_on_both_sides_need_a_new_one(self, bench):
        base = bench.manifest({"w": A})
        sides = bench.manifest({"w": A, "x": B}), bench.manifest({"w": A, "y": B})
        layout = plan(base, sides, Rules.only()).layout
        assert (layout.action, layout.skeleton, layout.fallback) == ("compute", sides[0].skeleton, None)


class TestWholeFiles:
    def test_one_side_is_taken_whole(self, bench):
        base, other = (bench.manifest({"chunk/000000": value}, kind="opaque") for value in (A, B))
        planned = plan(base, (base, other), Rules.only())
        assert {d.name: d.value for d in planned.decisions} == dict(other.parameters)

    def test_both_changed_is_a_conflict_of_everything_that_differs(self, bench):
        rows = [{"chunk/000000": A, "chunk/000001": v} for v in (A, B, C)]
        base, *sides = (bench.manifest(row, kind="opaque") for row in rows)
        planned = plan(base, sides, Rules.only())
        assert [d.action for d in planned.decisions] == ["take", "conflict"]
        assert (planned.layout.action, planned.layout.reason.code) == ("conflict", ConflictCode.WHOLE_FILE)

    def test_a_side_as_method_takes_it_whole(self, bench):
        sides = [bench.manifest({"chunk/000000": value}, kind="opaque") for value in (A, B, C)]
        planned = plan(sides[0], sides[1:], Rules.only("theirs"))
        assert planned.layout.action == "take"
        assert planned.decisions[0].value == sides[2].parameters["chunk/000000"]

    def test_different_formats_are_a_conflict(self, bench):
        sides = [bench.manifest({"w": v}, kind=k) for v, k in [(A, "npz"), (B, "npz"), (C, "safetensors")]]
        assert plan(sides[0], sides[1:], Rules.only()).layout.reason.code is ConflictCode.FORMAT
