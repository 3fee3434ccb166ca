"""What happens to one file does not fail the call for another."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from git_theta_ext.errors import MergeError, StoreError
from git_theta_ext.git.operation import MERGE
from git_theta_ext.operations.merge import driver_ahead
from git_theta_ext.operations.merge.driver_call import Answer, DriverCall

CALLS = [DriverCall(path, (), "7", (), MERGE) for path in "abc"]


@pytest.mark.parametrize(
    ("error", "kept"),
    [(None, ["a", "b", "c"]), (MergeError(""), ["a", "c"]), (StoreError(""), ["a"]), (MemoryError(), ["a"])],
)
def test_failure_is_left_to_the_call_for_the_file(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, kept: str
) -> None:
    found: list[str] = []

    def answer(_: object, call: DriverCall) -> Answer:
        if error is not None and call.path == "b":
            raise error
        return Answer(b"", conflicted=False)

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
    monkeypatch.setattr(driver_ahead, "answer_checkpoint", answer)
    driver_ahead.answer_ahead(SimpleNamespace(repo=None), CALLS[0])
    assert found == [*kept]
