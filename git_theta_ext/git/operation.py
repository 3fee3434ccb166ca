"""Find out what git is doing when it asks for a merge of three versions: merging two lines of work, or replaying one.

Git tells a merge driver nothing about that. The commands above it in the process table do; if there is no such table,
what the operation left in ``$GIT_DIR`` and the environment does, as far as it is certain.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.revisions import find_object, head_of, merge_heads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

Kind = Literal["merge", "replay", "unknown"]
Side = Literal["ours", "theirs"]

NAMED = "GITHEAD_"
"""``git merge`` gives the commits that it merges names in the environment, under their ids."""

_MERGES = ("merge", "merge-tree")
_REPLAYS = (
    "cherry-pick",
    "revert",
    "am",
    "stash",
    "apply",
    "switch",
    "replay",
    "rebase--interactive",
    "rebase--helper",
)
FROM_INDEX = ("checkout", "restore")
"""Commands that make a conflict again from the versions in the index, or (checkout) carry changes to another commit."""
_STRATEGIES = ("merge-recursive", "merge-theta", "merge-ort")
"""What other commands of git run to merge; it is those that count."""
_GENERATIONS = 16
_LARGEST = 1 << 22


@dataclass(frozen=True)
class Operation:
    """What git is doing.

    Attributes:
        name: The command, such as ``rebase``.
        kind: ``merge`` of lines of work; ``replay`` of a change, which leads from the base to theirs; or ``unknown``.
        favoured: The side that ``-X ours`` or ``-X theirs`` asks for where both changed something.
        remade: The merge commit that is made again, as ``git rebase --rebase-merges`` does.
    """

    name: str
    kind: Kind
    favoured: Side | None = None
    remade: str | None = None


MERGE = Operation("merge", "merge")


def current_operation(repo: Repository) -> Operation:
    """Return what the git that runs this merge driver is doing."""
    commands = list(calling_commands(os.getppid(), generations=_GENERATIONS))
    asked = next((words for words in commands if words[0] not in _STRATEGIES), None)
    if asked is None:
        return _by_state(repo)
    # A strategy has been told what to favour; ours hands that on in the environment.
    return _by_command(repo, asked[0], asked[1:], None if commands[0][0] in _STRATEGIES else _favoured(asked[1:]))


def _by_command(repo: Repository, name: str, words: Sequence[str], favoured: Side | None) -> Operation:
    if name in _MERGES and not any(word.startswith("--merge-base") for word in words):
        return Operation(name, "merge", favoured)
    if name == "rebase":
        return _rebase(repo, favoured)
    if name in _REPLAYS:
        return Operation(name, "replay", favoured or _stored(repo.git_dir / "sequencer" / "opts"))
    if name in FROM_INDEX:
        return (None if _switches(repo, name, words) else _in_progress(repo)) or Operation(name, "replay")
    return Operation(name, "unknown")


def _switches(repo: Repository, name: str, words: Sequence[str]) -> bool:
    """Tell whether ``git checkout -m`` carries changes to another commit; with paths it makes conflicts again."""
    named = [word for word in words if not word.startswith("-")]
    if name != "checkout" or len(named) != 1 or "--" in words[:-1]:
        return False
    return find_object(repo, f"{named[0]}^{{commit}}") is not None


def _rebase(repo: Repository, favoured: Side | None = None) -> Operation:
    """Return whether a rebase is replaying a commit or making a merge again."""
    folder = repo.git_dir / "rebase-merge"
    favoured = favoured or _stored(folder / "strategy_opts")
    done = _text(folder / "done").strip().splitlines()
    words = done[-1].split() if done else []
    if not words or words[0] not in {"merge", "m"}:
        return Operation("rebase", "replay", favoured)
    known = words[2] if len(words) > 2 and words[1] in {"-C", "-c"} else None  # noqa: PLR2004 - "merge -C COMMIT"
    return Operation("rebase", "merge", favoured, known)


def _in_progress(repo: Repository) -> Operation | None:
    """Return the operation that was stopped by a conflict, None if there is none."""
    there = {name for name in _STATES if (repo.git_dir / name).exists()}
    if "rebase-merge" in there:
        return _rebase(repo)
    state = next((state for state in _STATES if state in there), None)
    if state is None:
        return None
    kind: Kind = "merge" if state == "MERGE_HEAD" else "unknown" if state == "SQUASH_MSG" else "replay"
    return Operation(_STATES[state], kind)


_STATES = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "MERGE_HEAD": "merge",
    "SQUASH_MSG": "merge --squash",
}
"""What is in ``$GIT_DIR`` while an operation is stopped; that of a squashed merge stays until the next commit."""


def _by_state(repo: Repository) -> Operation:
    """Return what is certain without a process table.

    ``git merge`` names the merged commits in the environment, which hooks of its own inherit: those commits are in the
    current one by then. ``git stash pop`` may run in the middle of any merge and leaves no trace.
    """
    found = _in_progress(repo)
    if found is not None and found.name == "merge":
        found = Operation("merge or stash", "unknown")
    action = os.environ.get("GIT_REFLOG_ACTION", "").split()
    named = [name.removeprefix(NAMED) for name in os.environ if name.startswith(NAMED)]
    if found is None and action[:1] in (["cherry-pick"], ["revert"]):
        found = Operation(action[0], "replay")
    if not named:
        return found or Operation("an unknown command", "unknown")
    if found is not None or any(_is_ancestor(repo, commit) for commit in named):
        return Operation("an unknown command", "unknown")
    return Operation("merge", "merge", _favoured(action))


def _is_ancestor(repo: Repository, commit: str) -> bool:
    head = head_of(repo)
    return head is not None and repo.run("rev-list", "-n1", commit, "--not", head, check=False) == b""


def _favoured(words: Sequence[str]) -> Side | None:
    """Return what ``-X ours`` or ``-X theirs`` among a command's arguments asks for; the last one counts."""
    found: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        if before in {"-X", "--strategy-option"}:
            found.append(word)
        elif word.startswith("-X"):
            found.append(word[2:])
        elif word.startswith("--strategy-option="):
            found.append(word.partition("=")[2])
    return _last_side(found)


def _stored(file: Path) -> Side | None:
    """Return what the options that a stopped operation was begun with ask for."""
    words = _text(file).replace("'", " ").replace("=", " ").split()
    return _last_side(word.removeprefix("--") for word in words)


def _last_side(words: Iterable[str]) -> Side | None:
    found: Side | None = None
    for word in words:
        if word == "ours":
            found = "ours"
        elif word == "theirs":
            found = "theirs"
    return found


def _text(file: Path) -> str:
    try:
        with file.open(errors="replace") as opened:
            return opened.read(_LARGEST)
    except OSError:
        return ""


def repeated_merge(repo: Repository) -> str | None:
    """Return the merge commit that a rebase repeats at the moment by ``git merge``, as it does for several branches."""
    return _rebase(repo).remade if (repo.git_dir / "rebase-merge").is_dir() else None


def merged_commits(repo: Repository) -> list[str]:
    """Return the commits that git is merging at the moment: the current one, and those that it has names for.

    ``git rebase --rebase-merges`` makes merges again without naming their commits.
    """
    head = head_of(repo)
    others = [name.removeprefix(NAMED) for name in os.environ if name.startswith(NAMED)]
    if not others and (repo.git_dir / "rebase-merge").is_dir():
        others = merge_heads(repo)
    return [*([head] if head else []), *(other for other in others if other != head)]
