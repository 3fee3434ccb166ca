"""Find out whether git merges branches or replays a commit when it runs the merge driver.

Git does not pass this to a merge driver. The commands above it in the process table show it. Without a process table,
the environment and the state of the operation in ``$GIT_DIR`` show it, unless they are ambiguous.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.revisions import find_object, head_of, merge_heads
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

Kind = Literal["merge", "replay", "unknown"]
Side = Literal["ours", "theirs"]

NAMED = "GITHEAD_"
"""Prefix of the variables in which ``git merge`` passes the names of the commits that it merges, by their ids."""

_MERGES = ("merge", "merge-tree")
_REPLAYS = (
    "cherry-pick",
    "revert",
    "stash",
    "apply",
    "switch",
    "replay",
    "rebase--interactive",
    "rebase--helper",
)
FROM_INDEX = ("checkout", "restore")
"""Commands that recreate a conflict from the versions in the index, or (checkout) carry changes to another commit."""
_STRATEGIES = ("merge-recursive", "merge-theta", "merge-ort")
"""Programs that other git commands run to merge; the calling command determines the operation."""
_GENERATIONS = 16
_LARGEST = 1 << 22


@dataclass(frozen=True)
class Operation:
    """The operation that git performs.

    Attributes:
        name: The command, such as ``rebase``.
        kind: ``merge`` of branches; ``replay`` of a change, which leads from the base to theirs; or ``unknown``.
        favoured: The side that ``-X ours`` or ``-X theirs`` prefers if both sides changed something.
        remade: The merge commit that is recreated, as by ``git rebase --rebase-merges``.
    """

    name: str
    kind: Kind
    favoured: Side | None = None
    remade: str | None = None


MERGE = Operation("merge", "merge")


def current_operation(repo: Repository) -> Operation:
    """Return the operation of the git that runs this merge driver."""
    commands = list(calling_commands(os.getppid(), generations=_GENERATIONS))
    command = next((words for words in commands if words[0] not in _STRATEGIES), None)
    if command is None:
        return _by_state(repo)
    # A strategy receives its options from git; ours passes them on in the environment.
    return _by_command(repo, command[0], command[1:], None if commands[0][0] in _STRATEGIES else _favoured(command[1:]))


def _by_command(repo: Repository, name: str, words: Sequence[str], favoured: Side | None) -> Operation:
    if name in _MERGES and not any(word.startswith("--merge-base") for word in words):
        return Operation(name, "merge", favoured)
    if name == "rebase":
        return _rebase(repo, favoured)
    if name == "am":
        return Operation(_mail_or_rebase(repo), "replay", favoured)
    if name in _REPLAYS:
        return Operation(name, "replay", favoured or _stored(repo.git_dir / "sequencer" / "opts"))
    if name in FROM_INDEX:
        return (None if _switches(repo, name, words) else operation_in_progress(repo)) or Operation(name, "replay")
    return Operation(name, "unknown")


def _switches(repo: Repository, name: str, words: Sequence[str]) -> bool:
    """Return whether ``git checkout -m`` carries changes to another commit; with paths it recreates conflicts."""
    named = [word for word in words if not word.startswith("-")]
    if name != "checkout" or len(named) != 1 or "--" in words[:-1]:
        return False
    return find_object(repo, f"{named[0]}^{{commit}}") is not None


def _rebase(repo: Repository, favoured: Side | None = None) -> Operation:
    """Return the operation of a rebase: it replays a commit or recreates a merge."""
    folder = repo.git_dir / "rebase-merge"
    favoured = favoured or _stored(folder / "strategy_opts")
    done = _text(folder / "done").strip().splitlines()
    words = done[-1].split() if done else []
    if not words or words[0] not in {"merge", "m"}:
        return Operation("rebase", "replay", favoured)
    commit = words[2] if len(words) > 2 and words[1] in {"-C", "-c"} else None  # noqa: PLR2004 - "merge -C COMMIT"
    return Operation("rebase", "merge", favoured, commit)


def _mail_or_rebase(repo: Repository) -> str:
    """Return which command applies patches: ``git rebase --apply`` does it with ``git am``."""
    return "rebase" if (repo.git_dir / "rebase-apply" / "rebasing").exists() else "am"


def operation_in_progress(repo: Repository) -> Operation | None:
    """Return the operation that a conflict stopped, or None if there is none."""
    present = {name for name in _STATES if (repo.git_dir / name).exists()}
    if "rebase-merge" in present:
        return _rebase(repo)
    state = next((state for state in _STATES if state in present), None)
    if state is None:
        return None
    if state == "rebase-apply":
        return Operation(_mail_or_rebase(repo), "replay")
    kind: Kind = "merge" if state == "MERGE_HEAD" else "unknown" if state == "SQUASH_MSG" else "replay"
    return Operation(_STATES[state], kind)


def stopped_operation(repo: Repository) -> Operation:
    """Return the operation that left conflicts in the index.

    ``git stash``, ``git checkout -m`` and ``git cherry-pick --no-commit`` leave no other trace: they replay a change.
    """
    return operation_in_progress(repo) or Operation("stash", "replay")


_STATES = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "MERGE_HEAD": "merge",
    "SQUASH_MSG": "merge --squash",
}
"""Files in ``$GIT_DIR`` while an operation is stopped; that of a squashed merge stays until the next commit."""


def _by_state(repo: Repository) -> Operation:
    """Return what is certain without a process table.

    ``git merge`` names the merged commits in the environment, which its hooks inherit: by then the current commit
    contains those commits. ``git stash pop`` may run during any merge and leaves no trace.
    """
    stopped = operation_in_progress(repo)
    if stopped is not None and stopped.name == "merge":
        stopped = Operation("merge or stash", "unknown")
    action = os.environ.get("GIT_REFLOG_ACTION", "").split()
    named = [name.removeprefix(NAMED) for name in os.environ if name.startswith(NAMED)]
    if stopped is None and action[:1] in (["cherry-pick"], ["revert"]):
        stopped = Operation(action[0], "replay")
    if not named:
        return stopped or Operation("an unknown command", "unknown")
    if stopped is not None or any(_is_ancestor(repo, commit) for commit in named):
        return Operation("an unknown command", "unknown")
    return Operation("merge", "merge", _favoured(action))


def _is_ancestor(repo: Repository, commit: str) -> bool:
    head = head_of(repo)
    return head is not None and repo.run("rev-list", "-n1", commit, "--not", head, check=False) == b""


def _favoured(words: Sequence[str]) -> Side | None:
    """Return what ``-X ours`` or ``-X theirs`` among a command's arguments prefers; the last one counts."""
    options: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        if before in {"-X", "--strategy-option"}:
            options.append(word)
        elif word.startswith("-X"):
            options.append(word[2:])
        elif word.startswith("--strategy-option="):
            options.append(word.partition("=")[2])
    return _last_side(options)


def _stored(file: Path) -> Side | None:
    """Return the side that the stored options of a stopped operation prefer."""
    words = _text(file).replace("'", " ").replace("=", " ").split()
    return _last_side(word.removeprefix("--") for word in words)


def _last_side(words: Iterable[str]) -> Side | None:
    side: Side | None = None
    for word in words:
        if word == "ours":
            side = "ours"
        elif word == "theirs":
            side = "theirs"
    return side


def _text(file: Path) -> str:
    try:
        with file.open(errors="replace") as opened:
            return opened.read(_LARGEST)
    except OSError:
        return ""


def repeated_merge(repo: Repository) -> str | None:
    """Return the merge commit that a rebase is recreating with ``git merge``, as it does for several branches."""
    return _rebase(repo).remade if (repo.git_dir / "rebase-merge").is_dir() else None


def merged_commits(repo: Repository) -> list[str]:
    """Return the commits that git is merging: the current one, and those that the environment names.

    ``git rebase --rebase-merges`` recreates merges without naming their commits.
    """
    head = head_of(repo)
    others = [name.removeprefix(NAMED) for name in os.environ if name.startswith(NAMED)]
    if not others and (repo.git_dir / "rebase-merge").is_dir():
        others = merge_heads(repo)
    return [*([head] if head else []), *(other for other in others if other != head)]
