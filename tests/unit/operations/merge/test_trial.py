"""Merges on trial, as ``git theta merge --try`` and searches make them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, MODEL, Repo, fork
from reports import Reports

from git_theta_ext.errors import MergeError
from git_theta_ext.git.repository import Repository
from git_theta_ext.merging.devices import methods
from git_theta_ext.operations.merge import trial
from git_theta_ext.operations.merge.trial import merge_trials
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers import WithHistory

    from git_theta_ext.operations.merge.trial import MergeTrials


def _forked(repo: Repo) -> None:
    fork(repo)
    repo.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[1]: 5})
    repo.commit("main goes on")


@pytest.fixture
def forked(with_history: WithHistory, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Return a repository whose ``main`` and ``side`` changed the same tensor."""
    repo = with_history(_forked)
    monkeypatch.chdir(repo.path)
    return repo


@pytest.fixture
def trials(forked: Repo) -> Iterator[MergeTrials]:
    """Return trials of merging ``side``; Git does what it does anyway."""
    with Workspace(Repository.discover(), Reports()) as workspace, merge_trials(workspace, ["side"]) as made:
        yield made


def _state(repo: Repo) -> tuple[object, ...]:
    status, refs = repo.git("status", "--porcelain"), repo.git("for-each-ref")
    return repo.read(".git/index"), repo.read(), refs, status, sorted((repo.path / ".git/theta/packs").glob("*/*"))


def test_trial_has_the_bits_of_the_merge(forked: Repo, trials: MergeTrials, tmp_path: Path) -> None:
    words = ["method=task_arithmetic", "lambda=0.25"]
    written = trials.make(trials.plan(words)).export(tmp_path / "trial")[MODEL].read_bytes()
    forked.git("merge", "--quiet", "-s", "theta", *(word for one in words for word in ("-X", one)), "side")
    assert written == forked.read()


def test_trials_change_nothing(forked: Repo, trials: MergeTrials) -> None:
    before = _state(forked)
    made = [trials.make(trials.plan(words)) for words in (["method=average"], ["method=ties", "density=0.5"])]
    assert [trial.models[MODEL].outcome.computed for trial in made] == [{"average": 1}, {"ties": 1}]
    assert _state(forked) == before


def test_nothing_is_left_after_the_trials(forked: Repo) -> None:
    with Workspace(Repository.discover(), Reports()) as workspace, merge_trials(workspace, ["side"]) as trials:
        trials.make(trials.plan(["method=average"]))
        folder = trials.workspace.store.root
        assert list(folder.glob("packs/*/*")), "the merged tensor is in a store of its own"
    assert not folder.exists()
    assert not (forked.path / ".git/theta/merging").exists()


def test_misspelled_words_are_reported_by_the_plan(trials: MergeTrials) -> None:
    with pytest.raises(MergeError, match="densty"):
        trials.plan(["method=ties", "densty=0.5"])


def test_trial_with_conflicts_counts_them_and_exports_nothing(trials: MergeTrials, tmp_path: Path) -> None:
    trial = trials.make(trials.plan(["method=conflict"]))
    assert trial.conflicts == 1
    with pytest.raises(MergeError, match="has conflicts"):
        trial.export(tmp_path / "trial")
    assert not (tmp_path / "trial").exists()


@pytest.mark.parametrize(
    ("method", "libraries"),
    [("average", []), ("ties", ["numpy"]), ("iso_c", ["numpy"]), ("knots", ["torch", "numpy"]), ("ours", [])],
)
def test_time_of_a_trial_begins_after_the_imports(
    trials: MergeTrials, monkeypatch: pytest.MonkeyPatch, method: str, libraries: list[str]
) -> None:
    events: list[str] = []
    monkeypatch.setattr(methods, "require", lambda library, _work: events.append(library))
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: events.append("clock") or 0.0))
    trials.make(trials.plan([f"method={method}"]))
    assert events[: events.index("clock")] == libraries
