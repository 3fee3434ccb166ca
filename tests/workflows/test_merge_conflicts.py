"""While a checkpoint is in conflict: git's commands work, nothing undecided gets into the index, nothing is lost."""

from __future__ import annotations

import json
import os

import pytest
from helpers import ATTENTION, MODEL, Repo, WithHistory, fork, model

IDS = "position_ids"
SHOWING = [
    ["diff"],
    ["diff", "HEAD"],
    ["diff", "--cached"],
    ["diff", "--stat"],
    ["diff", "--name-only"],
    ["diff", "--theirs"],
    ["diff-files", "-p"],
    ["ls-files", "--modified"],
    ["blame", MODEL],
    ["-c", "alias.changes=diff --stat", "changes"],
]
STAGING = [
    ["add", MODEL],
    ["add", "--all"],
    ["-c", "alias.put=add", "put", MODEL],
    ["commit", "--all", "--no-edit"],
    ["update-index", MODEL],
    ["theta", "add", MODEL],
]


def _undecided(repo: Repo) -> None:
    fork(repo, versions=(model(1), model(1, {IDS: 3, ATTENTION[1]: 3}), model(1, {IDS: 2, ATTENTION[0]: 2})))
    assert repo.run("merge", "side", check=False).returncode == 1


@pytest.fixture
def undecided(with_history: WithHistory) -> Repo:
    """Return a repository in which a merge of ``side`` into ``main`` left integers in conflict."""
    return with_history(_undecided)


def test_commands_that_show_work_and_those_that_stage_are_refused(undecided: Repo) -> None:
    before = undecided.read()
    for words in SHOWING:
        done = undecided.run(*words, check=False)
        assert (words, done.returncode, done.stderr) == (words, 0, "")
        assert MODEL in done.stdout or IDS in done.stdout
    for words in STAGING:
        done = undecided.run(*words, check=False)
        assert done.returncode != 0
        assert f"git theta resolve {MODEL}" in done.stderr
    assert undecided.read() == before
    assert undecided.git("status", "--porcelain") == f"UU {MODEL}"


def test_diff_says_what_is_undecided(undecided: Repo) -> None:
    text = undecided.git("diff", "HEAD", env={**os.environ, "COLUMNS": "200"})
    assert f"~ {ATTENTION[1]}" in text
    assert f"! {IDS}: changed by both, and I64 values are not merged by arithmetic" in text
    assert f"++conflict  {IDS}  arithmetic: changed by both" in undecided.git("diff")


@pytest.mark.parametrize("words", [["side"], ["-s", "theta", "other", "side"]], ids=["two sides", "three sides"])
@pytest.mark.parametrize("gone", ["main", "side"])
@pytest.mark.parametrize("kept", [True, False])
def test_deleted_on_one_side_and_changed_on_another_is_kept_or_deleted(
    forked: Repo, words: list[str], gone: str, kept: bool
) -> None:
    forked.switch("-b", "other", "base")
    forked.write(b"other", "notes.txt")
    forked.commit("other")
    forked.switch(gone)
    forked.git("rm", "--quiet", MODEL)
    forked.git("commit", "--quiet", "--message", "gone")
    forked.switch("main")
    assert forked.run("merge", *words, check=False).returncode == 1
    status = json.loads(forked.git("theta", "status", "--json"))
    assert (status["one_sided"], status["conflicted"]) == ([MODEL], [])
    done = forked.run("theta", "resolve", MODEL, check=False)
    assert (done.returncode, f"git rm {MODEL} deletes it" in done.stderr) == (2, True)
    forked.git(*(["add"] if kept else ["rm", "--quiet"]), MODEL)
    forked.git("commit", "--quiet", "--no-edit")
    if kept:
        changed = {ATTENTION[1]: 3} if gone == "main" else {ATTENTION[0]: 2}
        assert forked.read() == model(1, changed)
        assert forked.git("status", "--porcelain") == ""
    else:
        assert not (forked.path / MODEL).exists()


def test_resolve_without_a_path_does_all_that_it_can_and_lists_what_one_side_deleted(repo: Repo) -> None:
    other = "z.safetensors"
    repo.write(model(1))
    repo.write(model(1), other)
    repo.commit("base")
    repo.switch("-b", "side")
    repo.git("rm", "--quiet", MODEL)
    repo.write(model(1, {IDS: 3}), other)
    repo.commit("theirs")
    repo.switch("main")
    repo.write(model(1, {IDS: 2}))
    repo.write(model(1, {IDS: 2}), other)
    repo.commit("ours")
    assert repo.run("merge", "side", check=False).returncode == 1
    done = repo.run("theta", "resolve", "--method", "theirs", "--json", check=False)
    assert done.returncode == 1
    (undecided,) = json.loads(done.stdout)["undecided"]
    assert undecided["path"] == MODEL
    assert f"git rm {MODEL} deletes it" in undecided["hint"]
    assert f"warning: {MODEL} was deleted" in repo.run("theta", "resolve", check=False).stderr
    assert repo.read(other) == model(1, {IDS: 3})
    assert repo.git("status", "--porcelain") == f"UD {MODEL}\nM  {other}"


def test_a_driver_that_failed_leaves_a_conflict_that_status_tells_of(undecided: Repo) -> None:
    undecided.git("merge", "--abort")
    assert undecided.run("-c", "theta.merge.method=avarage", "merge", "side", check=False).returncode == 1
    assert json.loads(undecided.git("theta", "status", "--json"))["conflicted"] == [MODEL]


@pytest.mark.parametrize("resolved", [[], [f"{IDS}"]], ids=["at once", "half resolved"])
def test_given_up_everything_is_as_before(undecided: Repo, resolved: list[str]) -> None:
    if resolved:
        undecided.git("merge", "--abort")
        undecided.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
        undecided.run("theta", "resolve", "--method", "ours", MODEL, *resolved, check=False)
    undecided.git("merge", "--abort")
    assert undecided.problems(MODEL, model(1, {IDS: 2, ATTENTION[0]: 2})) == []


def test_rerere_neither_records_nor_replays(undecided: Repo) -> None:
    undecided.git("merge", "--abort")
    undecided.git("config", "rerere.enabled", "true")
    undecided.git("config", "rerere.autoUpdate", "true")
    for method in ("theirs", "ours"):
        assert undecided.run("merge", "side", check=False).returncode == 1
        assert undecided.git("status", "--porcelain") == f"UU {MODEL}"
        undecided.git("theta", "resolve", "--method", method, MODEL)
        undecided.git("commit", "--quiet", "--no-edit")
        seed = 3 if method == "theirs" else 2
        assert undecided.problems(MODEL, model(1, {IDS: seed, ATTENTION[0]: 2, ATTENTION[1]: 3})) == []
        undecided.git("reset", "--quiet", "--hard", "HEAD~1")


def test_squashed_conflict_is_resolved_and_committed_with_one_parent(undecided: Repo) -> None:
    undecided.git("merge", "--abort")
    assert undecided.run("merge", "--squash", "side", check=False).returncode == 1
    undecided.git("theta", "resolve", "--method", "theirs", MODEL)
    undecided.git("commit", "--quiet", "--no-edit")
    assert undecided.problems(MODEL, model(1, {IDS: 3, ATTENTION[0]: 2, ATTENTION[1]: 3})) == []
    assert len(undecided.git("log", "-1", "--format=%P").split()) == 1
    assert "Theta-Merge" not in undecided.git("log", "-1", "--format=%B")


@pytest.mark.parametrize("command", ["checkout", "restore"])
def test_a_conflict_can_be_made_again_after_it_was_resolved(undecided: Repo, command: str) -> None:
    before = undecided.read()
    if command == "checkout":
        undecided.git("theta", "resolve", "--method", "theirs", MODEL)
    else:
        undecided.git("restore", "--theirs", MODEL)
    undecided.git(command, "--merge", "--", MODEL)
    assert undecided.read() == before
    assert undecided.git("status", "--porcelain") == f"UU {MODEL}"
    undecided.git("theta", "resolve", "--method", "ours", MODEL)
    undecided.git("commit", "--quiet", "--no-edit")
    assert undecided.problems(MODEL, model(1, {IDS: 2, ATTENTION[0]: 2, ATTENTION[1]: 3})) == []
