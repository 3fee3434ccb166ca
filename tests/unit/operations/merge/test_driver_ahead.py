"""What happens to one file does not fail the call for another."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import MergeError, StoreError
from git_theta_ext.git.operation import MERGE
from git_theta_ext.operations.merge import driver_ahead
from git_theta_ext.operations.merge.checkpoint_driver import MergedCall
from git_theta_ext.operations.merge.driver_ahead import TOGETHER
from git_theta_ext.operations.merge.driver_call import Answer, DriverCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.merge.checkpoint_driver import PlannedCall

WORKSPACE = SimpleNamespace(
    repo=None,
    settings=SimpleNamespace(cluster=None),
    store=SimpleNamespace(holding=lambda _: nullcontext()),
)
OUTCOME = SimpleNamespace(conflicts=0)
CALLS = [DriverCall(path, (), "7", (), MERGE) for path in "abc"]


def _noted(merged: Sequence[MergedCall], notes: list[str]) -> list[Answer]:
    notes += [one.planned.call.path for one in merged]
    return [Answer(one.content, conflicted=False) for one in merged]


def _watch(monkeypatch: pytest.MonkeyPatch, found: list[str], merge: Callable[..., MergedCall]) -> None:
    """Merge all calls with a function, and note the paths of the answers that are kept."""
    answers = SimpleNamespace(has=lambda _: False, keep=lambda call, _: found.append(call.path))
    monkeypatch.setattr(driver_ahead.KeptAnswers, "of", lambda _: answers)
    for name, value in {
        "_merged_trees": object(),
        "_others": {call.path: () for call in CALLS},
        "_is_first": True,
        "answer_model": None,
    }.items():
        monkeypatch.setattr(driver_ahead, name, lambda *_, value=value: value)
    monkeypatch.setattr(driver_ahead, "_call", lambda _, call, path, __: replace(call, path=path))
    monkeypatch.setattr(driver_ahead, "plan_call", lambda _, call: SimpleNamespace(call=call, values={}))
    monkeypatch.setattr(driver_ahead, "merge_call", merge)


@pytest.mark.parametrize(
    ("error", "kept"),
    [(None, ["a", "b", "c"]), (MergeError(""), ["a", "c"]), (StoreError(""), ["a"]), (MemoryError(), ["a"])],
)
def test_failure_is_left_to_the_call_for_the_file(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, kept: str
) -> None:
    found: list[str] = []
    notes: list[str] = []

    def merge(_: object, planned: PlannedCall) -> MergedCall:
        if error is not None and planned.call.path == "b":
            raise error
        return MergedCall(planned, OUTCOME, b"")

    _watch(monkeypatch, found, merge)
    monkeypatch.setattr(driver_ahead, "answers_of", lambda _, merged: _noted(merged, notes))
    driver_ahead.answer_ahead(WORKSPACE, CALLS[0])
    assert found == notes == [*kept]


def test_no_answer_is_kept_if_the_results_cannot_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def full(_: object) -> Iterator[None]:
        yield
        raise StoreError("")

    found: list[str] = []
    notes: list[str] = []
    _watch(monkeypatch, found, lambda _, planned: MergedCall(planned, OUTCOME, b""))
    monkeypatch.setattr(driver_ahead, "answers_of", lambda _, merged: _noted(merged, notes))
    workspace = SimpleNamespace(**{**vars(WORKSPACE), "store": SimpleNamespace(holding=full)})
    driver_ahead.answer_ahead(workspace, CALLS[0])
    assert found == notes == []


def test_large_files_are_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    sizes = {"a": 1, "b": TOGETHER, "c": 1}

    @contextmanager
    def hold(values: dict[str, TensorSpec]) -> Iterator[None]:
        held.append(sum(spec.nbytes for spec in values.values()))
        yield

    found: list[str] = []
    _watch(monkeypatch, found, lambda _, planned: MergedCall(planned, OUTCOME, b""))
    monkeypatch.setattr(driver_ahead, "answers_of", lambda _, merged: _noted(merged, []))

    def plan(_: object, call: DriverCall) -> SimpleNamespace:
        return SimpleNamespace(call=call, values={call.path: SimpleNamespace(nbytes=sizes[call.path])})

    monkeypatch.setattr(driver_ahead, "plan_call", plan)
    workspace = SimpleNamespace(**{**vars(WORKSPACE), "store": SimpleNamespace(holding=hold)})
    driver_ahead.answer_ahead(workspace, CALLS[0])
    sizes["b"] += 1
    driver_ahead.answer_ahead(workspace, CALLS[0])
    assert held == [1, TOGETHER, 1, 1, 1]
    assert found == [*"abcabc"]
