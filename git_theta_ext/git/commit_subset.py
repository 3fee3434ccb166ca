"""Draw the graph of some commits of a history, whose edges skip the others, as git draws a history of some paths."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.git.commit_graph import read_graph
from git_theta_ext.git.process import foreign_environment, run_git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.git.repository import Repository


def draw_subset(
    repo: Repository, words: Sequence[str], oids: Iterable[str], text: Callable[[str], Sequence[str]], most: int
) -> list[str]:
    """Return the lines of a graph that has only some commits, each with its nearest ancestors among these as parents.

    Git draws no graph with parents of ours, so a temporary repository gets commits that stand for them.

    Args:
        repo: The repository.
        words: The revisions whose history has the commits, and options that select parents.
        oids: Ids of the commits.
        text: Returns the lines of a commit, by its id.
        most: The most lines that a commit has.

    Raises:
        RepositoryError: Git refuses the words.
    """
    chosen = set(oids)
    listed = repo.run("log", "--topo-order", "--reverse", "--format=%H %ct %P", *words, "--", cwd=Path.cwd())
    history = [(oid, int(time), parents) for oid, time, *parents in map(str.split, listed.decode().splitlines())]
    parents = nearest_parents([(oid, above) for oid, _, above in history], chosen)
    with tempfile.TemporaryDirectory(prefix="git-theta-graph-") as folder:
        env = foreign_environment()
        run_git(("init", "--quiet", "--bare", "--template=", folder), env=env)
        stream = "".join(_stream([(oid, time) for oid, time, _ in history if oid in chosen], parents))
        run_git(("fast-import", "--quiet"), cwd=Path(folder), data=stream.encode(), env=env)
        form = "--format=%x01%s" + "%n%x01" * (most - 1)
        answer = run_git(("log", "--graph", "--no-color", form, "--all"), cwd=Path(folder), env=env)
    return read_graph(os.fsdecode(answer), text)


def nearest_parents(history: Sequence[tuple[str, Sequence[str]]], chosen: set[str]) -> dict[str, list[str]]:
    """Return the nearest ancestors of each chosen commit that are chosen, too, without ancestors of each other.

    Args:
        history: Commits with their parents, parents first.
        chosen: Ids of commits.
    """
    nearest: dict[str, list[str]] = {}
    ancestors: dict[str, int] = {}  # a bit for each chosen commit
    bits: dict[str, int] = {}
    parents: dict[str, list[str]] = {}
    for oid, above in history:
        found = list(dict.fromkeys(each for parent in above for each in nearest.get(parent, ())))
        if len(found) > 1:
            found = [each for each in found if not any(ancestors[other] & bits[each] for other in found)]
        nearest[oid] = found
        if oid in chosen:
            parents[oid] = found
            bits[oid] = 1 << len(bits)
            ancestors[oid] = 0
            for parent in found:
                ancestors[oid] |= ancestors[parent] | bits[parent]
            nearest[oid] = [oid]
    return parents


def _stream(commits: Sequence[tuple[str, int]], parents: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield input for ``git fast-import``: commits without files, whose message is the id of the one they stand for."""
    marks = {oid: number for number, (oid, _) in enumerate(commits, 1)}
    tips = dict.fromkeys(marks)
    for oid, time in commits:
        yield "reset refs/heads/drawn\n"
        yield f"commit refs/heads/drawn\nmark :{marks[oid]}\ncommitter A <a> {time} +0000\ndata {len(oid)}\n{oid}\n"
        for word, parent in zip(("from", *["merge"] * len(parents[oid])), parents[oid], strict=False):
            yield f"{word} :{marks[parent]}\n"
            tips.pop(parent, None)
        yield "\n"
    for number, tip in enumerate(tips):
        yield f"reset refs/heads/tip-{number}\nfrom :{marks[tip]}\n\n"
