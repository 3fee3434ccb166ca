"""``git theta merge --try``."""

from __future__ import annotations

import pytest
from helpers import ATTENTION, MODEL, fork

from git_theta_ext.cli.main import main

SCALED = "method=task_arithmetic lambda=0.5 sides=all"


def _forked(repo):
    fork(repo)
    repo.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[1]: 5})
    repo.commit("main goes on")


@pytest.fixture
def at(with_history, monkeypatch):
    """Work in a repository whose ``main`` and ``side`` changed the same tensor, and ``main`` another one."""
    repo = with_history(_forked)
    monkeypatch.chdir(repo.path)
    return repo


def test_trials_are_compared(at, run_json):
    average, scaled, ours = run_json(
        "merge", "--try", "method=average", "--try", SCALED, "--try", "method=ours", "side"
    )["trials"]
    assert [trial["words"] for trial in (average, scaled)] == [["method=average"], SCALED.split()]
    assert [trial["merged"] for trial in (average, scaled, ours)] == [{"average": 1}, {"task_arithmetic": 2}, {}]
    assert [trial["taken"] for trial in (average, scaled, ours)] == [1, 0, 2]
    assert [side["side"] for side in average["sides"]] == ["ours", "theirs"]
    assert ours["sides"][0]["cosine"] == pytest.approx(1)
    assert ours["change"] == ours["sides"][0]["change"] > scaled["change"]
    assert ours["stored"] == 0 < average["stored"] < scaled["stored"]


def test_table_ends_with_the_command_that_merges(at, capsys):
    assert main(["merge", "-X", "sides=all", "--try", "method=ties density=0.5", "--try", "", "side"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].endswith("git merge -s theta -X sides=all -X method=ties -X density=0.5 side")
    assert [line.split()[0] for line in printed[2:-1]] == ["merged", "sides=all", "2", "sides=all", "2"]
    assert max(map(len, printed[:-1])) <= 80


def test_exit_code_is_1_if_all_have_conflicts(at, run_json):
    found = run_json("merge", "--try", "method=conflict", "side", code=1)["trials"]
    assert [trial["conflicts"] for trial in found] == [1]
    run_json("merge", "--try", "method=conflict", "--try", "method=ours", "side")


def test_mistakes_are_reported_before_anything_is_merged(at, capsys, monkeypatch):
    monkeypatch.setattr("git_theta_ext.operations.merge.trial.MergeTrials.make", pytest.fail)
    assert main(["merge", "--try", "method=average", "--try", "method=avrage", "side"]) != 0
    assert "did you mean 'average'" in capsys.readouterr().err
    assert main(["merge", "--try", "method=average"]) != 0
    assert "--try needs the branches" in capsys.readouterr().err


def test_models_that_one_side_changed_are_not_tried(at, capsys, run_json):
    at.switch("-b", "apart", "base")
    at.write(b"text", "notes.txt")
    at.commit("apart")
    at.switch("main")
    assert main(["merge", "--try", "method=average", "apart", "--", MODEL]) == 0
    assert "was changed on more than one side" in capsys.readouterr().out
