from __future__ import annotations

import pytest
from workbench import ATTENTION, EMBEDDING, MODEL

from git_theta_ext.cli.merge_theta import CANNOT, Invocation, main, parse
from git_theta_ext.errors import UsageError


def test_gits_arguments_are_read():
    asked = parse(["--method=ours", "--renormalize", "base1", "base2", "--", "HEAD", "side"])
    assert asked == Invocation("ours", ("base1", "base2"), "HEAD", ("side",), ("--renormalize",))


def test_histories_without_a_common_ancestor_have_no_base():
    assert parse(["--", "HEAD", "a", "b"]) == Invocation(None, (), "HEAD", ("a", "b"))


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


def test_several_branches_are_refused_with_the_commands_that_do_it(forked):
    forked.git("checkout", "-q", "-b", "third", "base")
    forked.write_model(seed=1, changed={EMBEDDING: 4})
    forked.commit("third")
    forked.git("checkout", "-q", "main")
    head = forked.git("rev-parse", "HEAD")
    done = forked.run("merge", "-s", "theta", "side", "third", check=False)
    assert done.returncode == 2
    assert "merges one branch at a time, not 2" in done.stderr
    assert forked.git("rev-parse", "HEAD") == head
    assert forked.git("status", "--porcelain") == ""
