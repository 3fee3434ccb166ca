"""Suggest what to type instead: a similar word, or the command of git that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SWAP, _INSERT, _REPLACE, _DELETE = 1, 2, 3, 3
_FARTHEST = 5

GIT_EQUIVALENTS = {
    "clone": "git clone URL",
    "commit": "git commit",
    "init": "git theta install, then git theta track PATTERN",
    "ls": "git theta ls-files",
    "mv": "git mv",
    "rebase": "git rebase",
    "restore": "git restore MODEL",
    "rm": "git rm",
    "stash": "git stash",
    "switch": "git switch BRANCH",
    "update": "git theta add MODEL --update KIND=FILE",
}
"""Commands that git theta does not have, and how to do the same."""

_SIDES = ("ours", "theirs", "base")

_OTHERS = {
    "log --oneline": "git log --oneline MODEL",
    "log --stat": "git theta log --numbers MODEL",
    "log -p": "git theta log --numbers MODEL",
    "diff --name-only": "git diff --name-only MODEL",
}

GIT_OPTIONS = {
    f"git theta {command} --{side}": f"git theta resolve --method {side} MODEL"
    for command in ("resolve", "checkout")
    for side in _SIDES
} | {f"git theta {words}": hint for words, hint in _OTHERS.items()}
"""Options of git that commands of the same name lack, after the command, and how to do the same."""

SYNONYMS = {"prefetch": "fetch"}
"""Other names of commands."""


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that was most likely meant, or None if none is similar.

    Weighs mistakes as git does for its own commands: letters that changed places cost least, a missing letter less than
    one too many.
    """
    ranked = sorted((_distance(word, other), other) for other in candidates)
    return ranked[0][1] if ranked and ranked[0][0] <= min(_FARTHEST, len(word)) else None


def _distance(word: str, other: str) -> int:
    """Return the cost of making ``other`` of ``word`` (optimal string alignment)."""
    before: list[int] = []
    row = [at * _INSERT for at in range(len(other) + 1)]
    for i, letter in enumerate(word):
        last, before, row = before, row, [(i + 1) * _DELETE]
        for j, wanted in enumerate(other):
            cost = min(before[j] + (_REPLACE if letter != wanted else 0), before[j + 1] + _DELETE, row[j] + _INSERT)
            if i and j and letter == other[j - 1] and word[i - 1] == wanted and letter != wanted:
                cost = min(cost, last[j - 1] + _SWAP)
            row.append(cost)
    return row[-1]
