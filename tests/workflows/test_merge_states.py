"""Every state that a parameter can be in, merged by git with two sides, by the strategy with three, and in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers import MODEL, Repo, safetensors
from reports import Reports

import git_theta_ext
from git_theta_ext.errors import ThetaError
from git_theta_ext.merging.devices.state_dicts import element_types
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.merge.computation import announcement
from git_theta_ext.operations.merge.preview import plan_merge
from git_theta_ext.operations.merge.trial import merge_trials
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

Value = tuple[str, np.ndarray]
KINDS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "U8": "u1", "BOOL": "u1", "F8_E8M0": "u1"}


def of(kind: str, *values: object) -> Value:
    return kind, np.array(values, KINDS[kind])


def f32(*values: float) -> Value:
    return of("F32", *values)


A, B, C, D = f32(0, 2, 4), f32(1, 3, 8), f32(5, 5, 6), f32(9, 1, 7)
NAN = f32(1, np.nan, 2)
INTS = [of("I64", n, n + 1) for n in range(4)]
FLAGS = [of("BOOL", n & 1, n >> 1) for n in range(4)]
BLOCKS = [of("U8", n, n, n) for n in range(4)]
SCALES = [of("F16", n, n) for n in range(4)]
ROWS = [of("F32", [n, n], [n + 1, n]) for n in range(4)]
GROWN = [of("F32", [n, n], [n + 1, n], [n, 9]) for n in range(4)]
DOWN = [of("F32", [n, 2.0 + n, 1]) for n in range(4)]  # of a LoRA of rank 1
UP = [of("F32", [1.0], [n]) for n in range(4)]


def mean(*values: Value) -> Value:
    kind = values[0][0]
    return kind, (sum(value.astype("f8") for _, value in values) / len(values)).astype(KINDS[kind])


@dataclass(frozen=True)
class State:
    """What happens to some parameters, and what comes of it.

    Attributes:
        base: Their values in the common ancestor, by what stands behind the state's name; None where one is not there.
        sides: Likewise on main and on both branches; the second branch has no part in a merge of two.
        two: What a merge of two comes to: values, or a text in the reason of the conflict.
        three: What a merge of three comes to.
    """

    base: dict[str, Value | None]
    sides: tuple[dict[str, Value | None], ...]
    two: dict[str, Value | None] | str
    three: dict[str, Value | None] | str


def one(
    base: Value | None,
    sides: tuple[Value | None, Value | None, Value | None],
    two: Value | str | None,
    three: Value | str | None,
) -> State:
    """Describe a state of one parameter."""
    outcomes = [found if isinstance(found, str) else {"": found} for found in (two, three)]
    return State({"": base}, tuple({"": side} for side in sides), outcomes[0], outcomes[1])


BOTH_DIFFER, THREE_DIFFER = "added by both, differently", "added by 3 of 3 sides, differently"
STATES = {
    "unchanged": one(A, (A, A, A), A, A),
    "changed identically": one(A, (B, B, B), B, B),
    "changed by ours": one(A, (B, A, A), B, B),
    "changed by theirs": one(A, (A, B, A), B, B),
    "changed by the last": one(A, (A, A, B), A, B),
    "changed identically by some": one(A, (A, B, B), B, B),
    "changed by all": one(A, (B, C, D), mean(B, C), mean(B, C, D)),
    "changed by some": one(A, (A, C, D), C, mean(C, D)),
    "changed by all, identically by some": one(A, (B, B, C), B, mean(B, B, C)),
    "of two kinds": one(A, (of("F16", 1, 3, 8), C, A), of("F16", 3, 4, 7), of("F16", 3, 4, 7)),
    "made wider": one(A, (A, of("F64", 1, 3, 8), A), of("F64", 1, 3, 8), of("F64", 1, 3, 8)),
    "integers changed by one": one(INTS[0], (INTS[0], INTS[1], INTS[0]), INTS[1], INTS[1]),
    "integers changed by all": one(INTS[0], (INTS[1], INTS[2], INTS[3]), "I64 values are not merged", "I64 values"),
    "flags changed by all": one(FLAGS[0], (FLAGS[1], FLAGS[2], FLAGS[3]), "BOOL values are not merged", "BOOL values"),
    "scales of blocks": one(
        of("F8_E8M0", 1), (of("F8_E8M0", 2), of("F8_E8M0", 3), of("F8_E8M0", 4)), "F8_E8M0 values", "F8_E8M0 values"
    ),
    "floats turned integers": one(A, (of("I64", 1, 2, 3), B, A), "I64", "I64"),
    "added by ours": one(None, (A, None, None), A, A),
    "added by theirs": one(None, (None, A, None), A, A),
    "added by the last": one(None, (None, None, A), None, A),
    "added by all, equal": one(None, (A, A, A), A, A),
    "added by all, different": one(None, (A, B, C), BOTH_DIFFER, THREE_DIFFER),
    "added by some, different": one(None, (None, B, C), B, "added by 2 of 3 sides, differently"),
    "deleted by ours": one(A, (None, A, A), None, None),
    "deleted by theirs": one(A, (A, None, A), None, None),
    "deleted by all": one(A, (None, None, None), None, None),
    "deleted by ours, changed by others": one(A, (None, B, B), "deleted by ours, changed by theirs", "deleted by ours"),
    "deleted by theirs, changed by ours": one(A, (B, None, A), "deleted by theirs", "deleted by theirs1"),
    "of two shapes": one(A, (f32(1, 2), f32(1, 2, 3, 4), A), "shapes differ", "shapes differ"),
    "not finite": one(A, (NAN, B, A), "NaN", "NaN"),
    "not finite, of one": one(A, (A, NAN, A), NAN, NAN),
    "grow.by ours": one(
        ROWS[0],
        (GROWN[1], ROWS[2], ROWS[3]),
        of("F32", [1.5, 1.5], [2.5, 1.5], [1, 9]),
        of("F32", [2, 2], [3, 2], [1, 9]),
    ),
    "grow.by theirs": one(
        ROWS[0],
        (ROWS[1], GROWN[2], ROWS[0]),
        of("F32", [1.5, 1.5], [2.5, 1.5], [2, 9]),
        of("F32", [1.5, 1.5], [2.5, 1.5], [2, 9]),
    ),
    "grow.by both": one(ROWS[0], (GROWN[1], GROWN[2], ROWS[0]), "shape changed by both", "shape changed by both"),
    "grown without a rule": one(ROWS[0], (GROWN[1], ROWS[2], ROWS[0]), "shapes differ", "shapes differ"),
    "tied": State(
        {".x": f32(7, 7), ".y": f32(7, 7)},
        tuple({".x": f32(n, 7), ".y": f32(n, 7)} for n in (1, 3, 8)),
        {".x": f32(2, 7), ".y": f32(2, 7)},
        {".x": f32(4, 7), ".y": f32(4, 7)},
    ),
    "quantised, by one": State(
        {".qweight": BLOCKS[0], ".scales": SCALES[0]},
        tuple({".qweight": BLOCKS[n], ".scales": SCALES[n]} for n in (0, 1, 0)),
        {".qweight": BLOCKS[1], ".scales": SCALES[1]},
        {".qweight": BLOCKS[1], ".scales": SCALES[1]},
    ),
    "quantised, by all": State(
        {".qweight": BLOCKS[0], ".scales": SCALES[0]},
        tuple({".qweight": BLOCKS[n], ".scales": SCALES[n]} for n in (1, 2, 3)),
        "part of a quantised weight that ours and theirs changed",
        "that ours and theirs1 and theirs2 changed",
    ),
    "quantised, parts by each": State(
        {".qweight": BLOCKS[0], ".scales": SCALES[0]},
        (
            {".qweight": BLOCKS[1], ".scales": SCALES[0]},
            {".qweight": BLOCKS[0], ".scales": SCALES[1]},
            {".qweight": BLOCKS[0], ".scales": SCALES[0]},
        ),
        "part of a quantised weight that ours and theirs",
        "part of a quantised weight that ours and theirs1",
    ),
    "lora by one": State(
        {".lora_A.weight": DOWN[0], ".lora_B.weight": UP[0]},
        tuple({".lora_A.weight": DOWN[n], ".lora_B.weight": UP[n]} for n in (0, 1, 0)),
        {".lora_A.weight": DOWN[1], ".lora_B.weight": UP[1]},
        {".lora_A.weight": DOWN[1], ".lora_B.weight": UP[1]},
    ),
    "lora without a half": State(
        {".lora_A.weight": DOWN[0], ".lora_B.weight": UP[0]},
        (
            {".lora_A.weight": DOWN[1], ".lora_B.weight": UP[1]},
            {".lora_A.weight": DOWN[2], ".lora_B.weight": None},
            {".lora_A.weight": DOWN[0], ".lora_B.weight": UP[0]},
        ),
        "part of a LoRA (deleted by one side)",
        "part of a LoRA (deleted by one side)",
    ),
}
WHOLE, HALVES = ((1, 1), (2, 2), (3, 3)), ((1, 0), (0, 1), (0, 0))
LORAS = {"lora changed by all": WHOLE, "lora changed in halves": HALVES, "kohya": WHOLE}
"""LoRAs that are merged as one: the numbers of the two factors on each side."""
RULES = b"version: 1\nrules: [{match: 'grow.*', method: grow}]\n"


def lora(name: str, side: int | None) -> dict[str, Value]:
    """Return the parameters of a LoRA in the common ancestor, or on a side."""
    down, up = (0, 0) if side is None else LORAS[name][side]
    if name == "kohya":
        alpha = {"kohya.alpha": f32(1 + down)}
        return alpha | {"kohya.lora_down.weight": DOWN[down], "kohya.lora_up.weight": UP[up]}
    return {f"{name}.lora_A.weight": DOWN[down], f"{name}.lora_B.weight": UP[up]}


def update(values: dict[str, Value]) -> np.ndarray:
    """Return the update that a LoRA of rank 1 stands for."""
    alpha = next((array for name, (_, array) in values.items() if name.endswith("alpha")), np.ones(1))
    down, up = (values[name][1] for name in sorted(values) if "lora" in name)
    return alpha * (up @ down)


def version(side: int | None) -> bytes:
    """Return the checkpoint of the common ancestor, or of a side."""
    found = {}
    for name, state in STATES.items():
        values = state.base if side is None else state.sides[side]
        found |= {name + suffix: value for suffix, value in values.items() if value is not None}
    for name in LORAS:
        found |= lora(name, side)
    ordered = sorted(found.items())
    return safetensors({name: (kind, array.shape, array.tobytes()) for name, (kind, array) in ordered})


class Merged:
    """What a merge printed and left: a manifest with conflicts, and the store that has the values."""

    def __init__(self, path: Path, printed: str) -> None:
        self.printed = printed
        self.manifest = Manifest.parse((path / MODEL).read_bytes())
        self.reasons = {conflict.name: conflict.reason.text for conflict in self.manifest.conflicts}
        self._store = Workspace.discover(Reports(), path).store

    def value(self, name: str) -> Value | None:
        parameter = self.manifest.parameters.get(name)
        if parameter is None:
            return None
        data = self._store.read(parameter.digest, parameter.spec)
        kind = parameter.spec.dtype.name
        return kind, np.frombuffer(data, KINDS[kind]).reshape(parameter.spec.shape)


@pytest.fixture(scope="module")
def outcomes(module_repo: Repo) -> dict[str, Merged]:
    """Merge all states at once, by git with one branch and by the strategy with two."""
    repo = module_repo
    repo.write(RULES, ".thetamerge")
    repo.write(version(None))
    repo.commit("base")
    for number, name in enumerate(("a", "b"), 1):
        repo.switch("-b", name, "main")
        repo.write(version(number))
        repo.commit(name)
        repo.switch("main")
    repo.write(version(0))
    repo.commit("main")
    found = {}
    for name, words in (("two", ["a"]), ("three", ["-s", "theta", "a", "b"])):
        done = repo.run("merge", *words, check=False)
        assert done.returncode == 1, done.stderr
        found[name] = Merged(repo.path, done.stderr)
        repo.git("merge", "--abort")
    return found


PLANNED = [
    [],
    ["method=ties", "density=0.5", "scope=model"],
    ["method=task_arithmetic", "lambda=0.5", "sides=all"],
    ["method=ours", "sides=all"],
    ["method=conflict"],
    ["method=slerp"],
    ["method=fisher"],
]
"""Methods and options for which the plan is compared with the outcome."""


@pytest.mark.parametrize("words", PLANNED, ids=" ".join)
@pytest.mark.parametrize("branches", [["a"], ["a", "b"]], ids=" ".join)
def test_plan_foresees_the_outcome_of_every_state(
    outcomes: dict[str, Merged], module_repo: Repo, branches: list[str], words: list[str]
) -> None:
    printed = outcomes["two" if len(branches) == 1 else "three"].printed
    with (
        Workspace.discover(Reports(), module_repo.path) as workspace,
        merge_trials(workspace, branches) as trials,
    ):
        preview = plan_merge(workspace, branches, words)[MODEL]
        outcome = trials.make(trials.plan(words)).models[MODEL].outcome
    if not words and preview.budget is not None:  # the same values to read, device and memory
        assert all(line in printed for line in announcement(preview.budget))
    foreseen = {row.name: row for row in preview.plan.decisions}
    conflicts = {conflict.name: conflict.reason.text for conflict in outcome.manifest.conflicts}
    unforeseen = {name: text for name, text in conflicts.items() if foreseen[name].action != "conflict"}
    assert all("NaN or infinite" in text for text in unforeseen.values()), unforeseen  # values are not read
    assert {name for name, row in foreseen.items() if row.action == "conflict"} <= set(conflicts)
    for name, row in foreseen.items():
        merged = outcome.manifest.parameters.get(name)
        if row.computed and name not in conflicts:
            assert merged is not None
            assert merged.spec == preview.plan.specs[name]
        elif name not in conflicts:
            assert merged == row.value
    computed = sum(row.computed for row in foreseen.values()) - len(unforeseen)
    assert sum(outcome.computed.values()) == computed
    assert {note for note in preview.plan.notes if "statistics" not in note} <= set(outcome.notes)


@pytest.mark.parametrize("sides", ["two", "three"])
@pytest.mark.parametrize("state", STATES)
def test_state(outcomes: dict[str, Merged], state: str, sides: str) -> None:
    merged, expected = outcomes[sides], STATES[state].two if sides == "two" else STATES[state].three
    if isinstance(expected, str):
        changed = [state + suffix for suffix in STATES[state].base]
        assert [expected in merged.reasons.get(name, "") for name in changed] == [True] * len(changed)
        return
    for suffix, wanted in expected.items():
        assert state + suffix not in merged.reasons
        found = merged.value(state + suffix)
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            assert found[0] == wanted[0]
            assert np.array_equal(found[1], wanted[1], equal_nan=True), found[1]


@pytest.mark.parametrize(("sides", "changed_by"), [("two", 2), ("three", 3)])
@pytest.mark.parametrize("name", LORAS)
def test_the_factors_of_a_lora_are_merged_as_one(
    outcomes: dict[str, Merged], name: str, sides: str, changed_by: int
) -> None:
    merged = outcomes[sides]
    found = {parameter: value for parameter in lora(name, None) if (value := merged.value(parameter)) is not None}
    assert not set(found) & set(merged.reasons)
    updates = [update(lora(name, side)) for side in range(2 if "halves" in name else changed_by)]
    left, sizes, right = np.linalg.svd(sum(updates) / len(updates))
    nearest = sizes[0] * np.outer(left[:, 0], right[0])
    np.testing.assert_allclose(update(found), nearest, atol=1e-5)


@pytest.mark.parametrize("sides", ["two", "three"])
def test_tied_tensors_stay_one(outcomes: dict[str, Merged], sides: str) -> None:
    parameters = outcomes[sides].manifest.parameters
    assert parameters["tied.x"] == parameters["tied.y"]


def state_dict(state: str, side: int | None) -> dict[str, torch.Tensor]:
    """Return what a state has in the common ancestor, or on a side, as tensors of torch."""
    if state in LORAS:
        values = lora(state, side)
    else:
        found = STATES[state].base if side is None else STATES[state].sides[side]
        values = {state + suffix: value for suffix, value in found.items() if value is not None}
    kinds = element_types()
    return {
        name: torch.from_numpy(np.atleast_1d(array).copy()).view(kinds[kind]) for name, (kind, array) in values.items()
    }


def in_python(*args: object, **options: object) -> dict[str, torch.Tensor] | str:
    """Return what the Python API merges, or the message with which it refuses."""
    try:
        return git_theta_ext.merge(*args, **options)
    except ThetaError as error:
        return error.message


@pytest.mark.parametrize(("sides", "count"), [("two", 2), ("three", 3)])
@pytest.mark.parametrize("state", [*STATES, *LORAS])
def test_the_python_api_merges_a_state_as_git_does(
    outcomes: dict[str, Merged], state: str, sides: str, count: int
) -> None:
    base, *models = (state_dict(state, side) for side in (None, *range(count)))
    merged = outcomes[sides]
    names = {name for model in (base, *models) for name in model}
    reasons = {name: merged.reasons[name] for name in names if name in merged.reasons}
    found = in_python(models, base=base, rules=RULES.decode())
    if isinstance(found, str):
        assert reasons.keys() == names
        assert [f"{name!r} ({reason})" in found for name, reason in reasons.items()] == [True] * len(names)
        return
    assert not reasons
    for name in names:
        wanted = merged.value(name)
        assert (name in found) == (wanted is not None)
        if wanted is not None:
            assert found[name].dtype == element_types()[wanted[0]]
            bits = found[name].contiguous().view(torch.uint8).numpy().tobytes()
            assert bits == wanted[1].tobytes(), name


@pytest.mark.parametrize("method", ["sum", "max", "task_arithmetic", "apply", "average"])
@pytest.mark.parametrize("kind", ["U8", "I8", "I16", "I32", "I64"])
def test_integers_never_wrap_around(method: str, kind: str) -> None:
    dtype = element_types()[kind]
    largest = torch.iinfo(dtype).max
    base, one, other = ({"n": torch.tensor([value], dtype=dtype)} for value in (1, largest - 1, largest))
    found = in_python([one, other], method, base=base)
    if isinstance(found, str):
        assert "'n'" in found
    else:
        assert (method, found["n"].item()) == ("max", largest)
