"""While a checkpoint is in conflict: git's commands work, nothing undecided gets into the index, nothing is lost."""

from __future__ import annotations

import pytest
from workbench import ATTENTION, MODEL, Repo

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


@pytest.fixture
def undecided(repo: Repo) -> Repo:
    """Return a repository in which a merge of ``side`` into ``main`` left integers in conflict."""
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("checkout", "--quiet", "-b", "side")
    repo.write_model(seed=1, changed={IDS: 3, ATTENTION[1]: 3})
    repo.commit("side")
    repo.git("checkout", "--quiet", "main")
    repo.write_model(seed=1, changed={IDS: 2, ATTENTION[0]: 2})
    repo.commit("main")
    assert repo.run("merge", "side", check=False).returncode == 1
    return repo


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
    text = undecided.git("diff", "HEAD")
    assert f"~ {ATTENTION[1]}" in text
    assert f"! {IDS}: changed by both, and I64 values are not merged by arithmetic" in text
    assert f'++"{IDS}"\t"changed by both' in undecided.git("diff")
