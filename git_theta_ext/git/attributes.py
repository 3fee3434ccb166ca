"""The attributes that make a file a checkpoint, as git applies them to paths.

Source: ``gitattributes(5)``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.process import RunGit

DRIVER = "theta"
_FILTER = "filter"
FORMAT_ATTRIBUTE = "theta-format"
UNSET = frozenset({"unspecified", "unset", "set", ""})
"""What git calls the value of an attribute without one."""


def theta_paths(run: RunGit, paths: Iterable[str], *, cached: bool = False) -> dict[str, str | None]:
    """Ask git which paths are checkpoints.

    Args:
        run: Runs git, as ``Repository.run`` does.
        paths: Paths relative to the directory in which ``run`` runs git; they need not exist.
        cached: Read ``.gitattributes`` from the index only.

    Returns:
        The paths whose filter is ours, in the given order, with their ``theta-format`` attribute or None.

    Raises:
        RepositoryError: Git's answer is incomplete.
    """
    answers = _attributes(run, paths, (_FILTER, FORMAT_ATTRIBUTE), cached=cached)
    return {path: None if name in UNSET else name for path, (driver, name) in answers.items() if driver == DRIVER}


def paths_without_filter(run: RunGit, paths: Iterable[str], *, cached: bool = False) -> list[str]:
    """Return the paths that no line assigns to a filter, and none says ``-filter`` of.

    Args:
        run: Runs git, as for ``theta_paths``.
        paths: Paths relative to the directory in which ``run`` runs git.
        cached: Read ``.gitattributes`` from the index only.

    Raises:
        RepositoryError: Git's answer is incomplete.
    """
    answers = _attributes(run, paths, (_FILTER,), cached=cached)
    return [path for path, (driver,) in answers.items() if driver == "unspecified"]


def _attributes(
    run: RunGit, paths: Iterable[str], names: tuple[str, ...], *, cached: bool
) -> dict[str, tuple[str, ...]]:
    requested = list(paths)
    if not requested:
        return {}
    request = b"".join(os.fsencode(path) + b"\0" for path in requested)
    source = ("--cached",) if cached else ()
    answer = run("check-attr", *source, "-z", "--stdin", *names, input=request)
    fields = [os.fsdecode(value) for value in answer.split(b"\0")]
    width = 3 * len(names)  # path, attribute and value, for each attribute
    if len(fields) != width * len(requested) + 1:
        raise RepositoryError(f"unexpected output of git check-attr for {requested[0]!r}")
    return {path: tuple(fields[n * width + 2 : (n + 1) * width : 3]) for n, path in enumerate(requested)}
