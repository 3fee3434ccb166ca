"""What git is doing when it asks for a merge: by the commands above, by what an operation left, or not at all."""

from __future__ import annotations

import os

import pytest

from git_theta_ext.git import operation
from git_theta_ext.git.operation import current_operation
from git_theta_ext.git.repository import Repository


@pytest.fixture
def here(repo, monkeypatch):
    """Return a repository with two commits, in which the commands above are none yet."""
    repo.git("commit", "--allow-empty", "-qm", "one")
    repo.git("tag", "one")
    repo.git("commit", "--allow-empty", "-qm", "two")
    monkeypatch.chdir(repo.path)
    for name in [name for name in os.environ if name.startswith(("GITHEAD_", "GIT_REFLOG_ACTION"))]:
        monkeypatch.delenv(name)
    above(monkeypatch)
    return repo


def above(monkeypatch, *commands: str) -> None:
    found = [tuple(command.split()) for command in commands]
    monkeypatch.setattr(operation, "calling_commands", lambda *_, **__: iter(found))


def left(repo, **files: str) -> None:
    for name, text in files.items():
        path = repo.path / ".git" / name.replace("__", "/").replace("_m", "-m").replace("_a", "-a")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def found(repo):
    known = current_operation(Repository.discover(repo.path))
    return known.name, known.kind


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["merge side"], ("merge", "merge")),
        (["merge-recursive a -- b c", "merge-theta a -- b c", "merge -s theta side"], ("merge", "merge")),
        (["merge-tree --write-tree a b"], ("merge-tree", "merge")),
        (["merge-tree --write-tree --merge-base=x a b"], ("merge-tree", "unknown")),
        (["rebase main"], ("rebase", "replay")),
        (["merge-recursive a -- b c", "merge-theta a -- b c", "rebase -s theta main"], ("rebase", "replay")),
        (["rebase main", "pull --rebase"], ("rebase", "replay")),
        (["am -3"], ("am", "replay")),
        (["stash apply abc", "merge --autostash side"], ("stash", "replay")),
        (["merge side", "rebase --exec x"], ("merge", "merge")),
        (["cherry-pick -m 1 x"], ("cherry-pick", "replay")),
        (["revert x"], ("revert", "replay")),
        (["checkout -m one"], ("checkout", "replay")),
        (["switch -m one"], ("switch", "replay")),
        (["apply --3way patch"], ("apply", "replay")),
        (["log --remerge-diff"], ("log", "unknown")),
        ([], ("an unknown command", "unknown")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "-",
)
def test_the_nearest_command_counts(here, monkeypatch, commands, expected):
    above(monkeypatch, *commands)
    assert found(here) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"MERGE_HEAD": ""}, ("merge", "merge")),
        ({"CHERRY_PICK_HEAD": ""}, ("cherry-pick", "replay")),
        ({"REVERT_HEAD": ""}, ("revert", "replay")),
        ({"rebase_merge__done": "pick abc"}, ("rebase", "replay")),
        ({"rebase_apply__rebasing": ""}, ("rebase", "replay")),
        ({"rebase_apply__applying": ""}, ("am", "replay")),
        ({"SQUASH_MSG": ""}, ("merge --squash", "unknown")),
    ],
    ids=str,
)
def test_a_conflict_is_made_again_as_it_arose(here, monkeypatch, files, expected):
    left(here, **files)
    for command in ("checkout -m model.safetensors", "checkout --merge -- one", "restore -m model.safetensors"):
        above(monkeypatch, command)
        assert found(here) == expected
    above(monkeypatch, "checkout -m one")
    assert found(here) == ("checkout", "replay"), "this carries changes to another commit"


def test_a_merge_that_a_rebase_makes_again_is_a_merge(here, monkeypatch):
    above(monkeypatch, "rebase -r one")
    left(here, rebase_merge__done="pick 1 x\nmerge -C abc123 side # Merge\n")
    known = current_operation(Repository.discover(here.path))
    assert (known.kind, known.remade) == ("merge", "abc123")
    left(here, rebase_merge__done="merge -C abc123 side # Merge\npick 1 x\n")
    assert found(here) == ("rebase", "replay")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("merge -X ours side", "ours"),
        ("merge -Xtheirs side", "theirs"),
        ("merge -X patience -X ours --strategy-option=theirs side", "theirs"),
        ("merge --strategy-option ours side", "ours"),
        ("cherry-pick -X theirs side", "theirs"),
        ("merge ours", None),
        ("merge -X patience side", None),
    ],
)
def test_the_side_that_is_favoured(here, monkeypatch, command, expected):
    above(monkeypatch, command)
    assert current_operation(Repository.discover(here.path)).favoured == expected
    above(monkeypatch, "merge-recursive --ours a -- b c", command)
    assert current_operation(Repository.discover(here.path)).favoured is None, "the strategy has the option"


def test_options_of_an_operation_that_goes_on_are_remembered(here, monkeypatch):
    above(monkeypatch, "rebase --continue")
    left(here, rebase_merge__strategy_opts=" '--ours'\n", rebase_merge__done="pick 1 x\n")
    assert current_operation(Repository.discover(here.path)).favoured == "ours"
    above(monkeypatch, "cherry-pick --continue")
    left(here, sequencer__opts="[options]\n\tstrategy-option = theirs\n")
    assert current_operation(Repository.discover(here.path)).favoured == "theirs"


class TestWithoutAProcessTable:
    def test_a_merge_names_its_commits(self, here, monkeypatch):
        side = here.git("commit-tree", "-m", "side", "-p", "one", "one^{tree}")
        monkeypatch.setenv(f"GITHEAD_{side}", "side")
        monkeypatch.setenv("GIT_REFLOG_ACTION", "merge -X ours side")
        known = current_operation(Repository.discover(here.path))
        assert (known.kind, known.favoured) == ("merge", "ours")
        left(here, rebase_merge__done="pick 1 x\n")
        assert found(here)[1] == "unknown", "a hook of the merge may be what replays"

    def test_names_that_a_hook_inherits_are_no_merge(self, here, monkeypatch):
        monkeypatch.setenv(f"GITHEAD_{here.git('rev-parse', 'one')}", "one")
        assert found(here)[1] == "unknown"

    @pytest.mark.parametrize(
        ("files", "kind"),
        [
            ({"rebase_merge__done": "pick 1 x\n"}, "replay"),
            ({"rebase_merge__done": "merge -C abc side\n"}, "merge"),
            ({"rebase_apply__x": ""}, "replay"),
            ({"CHERRY_PICK_HEAD": ""}, "replay"),
            ({"MERGE_HEAD": ""}, "unknown"),
            ({}, "unknown"),
        ],
        ids=str,
    )
    def test_what_an_operation_left_counts_as_far_as_it_is_certain(self, here, files, kind):
        left(here, **files)
        assert found(here)[1] == kind

    def test_picks_say_so_in_the_environment(self, here, monkeypatch):
        monkeypatch.setenv("GIT_REFLOG_ACTION", "cherry-pick")
        assert found(here) == ("cherry-pick", "replay")
