"""The lines that ``git log --graph`` draws, with text of our own beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.git.commit_log import COMMIT_FIELDS, parse_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.git.repository import Repository

_MARK = "\x01"
_ONLY_EDGES = frozenset("| ")


def draw_graph(repo: Repository, words: Sequence[str], text: Callable[[Commit], Sequence[str]], most: int) -> list[str]:
    """Return the lines of a graph.

    Args:
        repo: The repository.
        words: Arguments for ``git log``.
        text: Returns the lines of a commit.
        most: The most lines that a commit has.

    Raises:
        RepositoryError: Git refuses the arguments.
    """
    # Git draws as many lines for each commit as the longest has. Those that a shorter one does not need are left out
    # unless edges change their places there.
    form = f"--format=%x01{COMMIT_FIELDS}" + "%n%x01" * (most - 1)
    answer = repo.run("log", "--graph", "--no-color", "--encoding=UTF-8", form, *words, cwd=Path.cwd())
    return read_graph(os.fsdecode(answer), lambda header: text(parse_header(header)))


def read_graph(answer: str, text: Callable[[str], Sequence[str]]) -> list[str]:
    """Return the lines of a graph with text of our own.

    Args:
        answer: What git printed, with a mark where text begins, and something about the commit in the first line.
        text: Returns the lines of a commit, by what the first line says about it.
    """
    lines: list[str] = []
    left: Iterator[str] = iter(())
    for line in answer.split("\n")[:-1]:
        edges, marked, header = line.partition(_MARK)
        if header:
            left = iter(text(header))
        own = next(left, None) if marked else None
        if own is not None:
            lines.append(edges + own)
        elif not _ONLY_EDGES.issuperset(edges):
            lines.append(edges.rstrip())
    return lines
