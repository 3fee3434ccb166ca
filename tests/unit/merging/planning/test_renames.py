"""What one side trained arrives under the name that another side gave it."""

import pytest

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.planning.renames import follow_renames
from git_theta_ext.merging.rules.rules import Rules

W, V, NEW = [[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 7.0]]


@pytest.fixture
def base(bench):
    return bench.manifest({"bert.0.gamma": W, "bert.1.gamma": V})


@pytest.fixture
def renamed(bench):
    return bench.manifest({"0.weight": W, "1.weight": V}, head=b"ours")


@pytest.fixture
def trained(bench):
    return bench.manifest({"bert.0.gamma": W, "bert.1.gamma": NEW})


@pytest.mark.parametrize("swapped", [False, True], ids=["renamed by ours", "renamed by theirs"])
def test_what_one_side_changed_gets_the_new_name(bench, base, renamed, trained, swapped):
    sides = (trained, renamed) if swapped else (renamed, trained)
    asked = plan(base, sides, Rules.only())
    assert (asked.layout.action, asked.layout.skeleton) == ("take", renamed.skeleton)
    outcome = apply(asked, bench.store)
    assert outcome.conflicts == 0
    found = {name: bench.values(p) for name, p in outcome.manifest.parameters.items()}
    assert found == {"0.weight": W, "1.weight": NEW}
    who = "theirs" if swapped else "ours"
    assert outcome.notes == (f"renamed by {who}: 'bert.1.gamma' to '1.weight'",)
    assert bench.layout(outcome.manifest).parameters == {n: p.spec for n, p in outcome.manifest.parameters.items()}


def test_what_both_changed_is_merged_under_the_new_name(bench):
    base = bench.manifest({"a": W, "b": W, "l.0.c": V})
    ours = bench.manifest({"a": NEW, "b": W, "m.0.c": V}, head=b"ours")
    theirs = bench.manifest({"a": W, "b": NEW, "l.0.c": NEW})
    decisions = {d.name: (d.action, d.source) for d in plan(base, (ours, theirs), Rules.only()).decisions}
    assert decisions == {"a": ("take", "ours"), "b": ("take", "theirs"), "m.0.c": ("take", "theirs")}


AMBIGUOUS = {
    "two of the same value": ({"a.x": W, "b.x": W}, {"a.y": W, "b.y": W}, {"a.x": NEW, "b.x": W}),
    "the new name is another side's": ({"x": W}, {"y": W}, {"x": NEW, "y": V}),
    "zeros": ({"l.0.bias": [0.0, 0.0]}, {"head.0.bias": [0.0, 0.0]}, {"l.0.bias": [1.0, 2.0]}),
    "ones": ({"l.0.scale": [1.0, 1.0]}, {"head.0.scale": [1.0, 1.0]}, {"l.0.scale": [1.0, 2.0]}),
}


@pytest.mark.parametrize(("base", "ours", "theirs"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_is_not_certain_is_a_conflict_and_never_lost(bench, base, ours, theirs):
    versions = [bench.manifest(version) for version in (base, ours, theirs)]
    assert follow_renames(versions[0], versions[1:]).notes == ()
    planned = plan(versions[0], versions[1:], Rules.only())
    assert any(decision.action == "conflict" for decision in planned.decisions)


def test_values_that_are_alike_are_reported_apart_by_numbers_and_by_their_module(bench):
    zeros = [0.0, 0.0]
    base = bench.manifest({"b.0.w": W, "b.0.bias": zeros, "b.1.w": V, "b.1.bias": zeros})
    ours = bench.manifest({"e.0.w": W, "e.0.beta": zeros, "e.1.w": V, "e.1.beta": zeros})
    theirs = bench.manifest({"b.0.w": W, "b.0.bias": zeros, "b.1.w": V, "b.1.bias": [1.0, 2.0]})
    planned = plan(base, (ours, theirs), Rules.only())
    taken = {d.name: d.source for d in planned.decisions if d.state == "changed by theirs"}
    assert taken == {"e.1.beta": "theirs"}
    assert all(decision.action == "take" for decision in planned.decisions)


PARTS = {
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "bitsandbytes": ("weight", "weight.quant_map", "weight.absmax", "weight.quant_state.bitsandbytes__nf4"),
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("trained", [(0,), (0, 2), (2,)], ids=str)
def test_the_parts_of_a_quantised_weight_follow_together(bench, parts, trained):
    """Zero points, maps and permutations are the same in all modules."""

    def module(name, number, changed=()):
        own = {part: place for place, part in enumerate(parts) if place % 2 == 0}
        values = {part: [[9.0, place]] for place, part in enumerate(parts)}
        values |= {part: [[number, 10.0 * place + (place in changed)]] for part, place in own.items()}
        return {f"{name}.{part}": value for part, value in values.items()}

    base = bench.manifest(module("a.up", 1.0) | module("b.up", 2.0))
    renamed = bench.manifest(module("a.gate", 1.0) | module("b.gate", 2.0), head=b"theirs")
    ours = module("a.up", 1.0, trained) | module("b.up", 2.0)
    merged = plan(base, (bench.manifest(ours), renamed), Rules.only())
    values = {d.name: bench.values(d.value) for d in merged.decisions if d.value is not None}
    assert values == module("a.gate", 1.0, trained) | module("b.gate", 2.0)
    assert {d.action for d in merged.decisions} == {"take"}
