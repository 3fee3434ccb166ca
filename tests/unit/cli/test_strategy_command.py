from __future__ import annotations

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, model

from git_theta_ext.cli.merge_strategy import CANNOT, Invocation, main, parse
from git_theta_ext.errors import UsageError


def test_gits_arguments_are_read():
    asked = parse(["--method=ties", "--find-renames=50", "--density=0.2", "base1", "base2", "--", "HEAD", "side"])
    words = ("method=ties", "density=0.2")
    assert asked == Invocation(("base1", "base2"), "HEAD", ("side",), words, ("--find-renames=50",))


def test_histories_without_a_common_ancestor_have_no_base():
    assert parse(["--", "HEAD", "a", "b"]) == Invocation((), "HEAD", ("a", "b"))


@pytest.mark.parametrize("words", [[], ["base", "HEAD", "side"], ["base", "--", "HEAD"]])
def test_anything_else_is_refused(words, capsys):
    with pytest.raises(UsageError, match="usage"):
        parse(words)
    assert main(words) == CANNOT
    assert "git merge -s theta" in capsys.readouterr().err


def test_one_branch_is_merged_by_the_driver(forked):
    forked.git("merge", "-q", "-s", "theta", "-m", "merged", "side")
    assert len(forked.git("log", "-1", "--format=%P").split()) == 2
    expected = forked.git("theta", "show", "side:" + MODEL, ATTENTION[1], "--json")
    assert forked.git("theta", "show", "HEAD:" + MODEL, ATTENTION[1], "--json") == expected
    assert forked.git("status", "--porcelain") == ""


def test_the_method_can_be_given_on_the_command_line(forked):
    forked.write_model(seed=1, changed={ATTENTION[1]: 9})
    forked.commit("both changed it")
    ours = forked.git("theta", "show", "HEAD:" + MODEL, ATTENTION[1], "--json")
    forked.git("merge", "-q", "-s", "theta", "-X", "method=ours", "-m", "merged", "side")
    assert forked.git("theta", "show", "HEAD:" + MODEL, ATTENTION[1], "--json") == ours


def test_conflicts_come_back_as_conflicts(forked):
    forked.write_model(seed=1, changed={ATTENTION[1]: 9})
    forked.commit("both changed it")
    done = forked.run("merge", "-s", "theta", "-X", "method=conflict", "side", check=False)
    assert done.returncode == 1
    assert forked.git("status", "--porcelain") == f"UU {MODEL}"


def test_method_on_the_command_line_beats_one_in_the_environment_with_its_options(forked, monkeypatch):
    forked.write_model(seed=1, changed={ATTENTION[1]: 9})
    forked.commit("both changed it")
    monkeypatch.setenv("GIT_THETA_MERGE", "ties density=0.1")
    forked.git("merge", "-q", "-s", "theta", "-X", "method=theirs", "-m", "merged", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[1]: 3})) == []


def test_options_on_the_command_line_are_added_to_a_method_in_the_environment(forked, monkeypatch):
    forked.write_model(seed=1, changed={ATTENTION[1]: 9})
    forked.commit("both changed it")
    monkeypatch.setenv("GIT_THETA_MERGE", "task_arithmetic")
    forked.git("merge", "-q", "-s", "theta", "-X", "lambda=0", "-m", "merged", "side")
    assert forked.problems(MODEL, model(1)) == []


def test_options_of_git_are_refused_with_several_branches(forked):
    forked.git("branch", "third", "base")
    done = main(["--patience", "base", "--", "HEAD", "side", "third"])
    assert done == CANNOT
    assert forked.git("status", "--porcelain") == ""


def test_several_branches_are_merged_at_once(forked):
    forked.switch("-b", "third", "base")
    forked.write_model(seed=1, changed={EMBEDDING: 4})
    forked.commit("third")
    forked.switch("main")
    forked.git("merge", "-q", "-s", "theta", "side", "third")
    assert len(forked.git("log", "-1", "--format=%P").split()) == 3
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3, EMBEDDING: 4})) == []
