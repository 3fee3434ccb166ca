"""Find out whether a repository has changed, without reading its history."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

_FILES = ("HEAD", "config", "config.worktree", "packed-refs", "shallow")
_DEEP = ("refs", "logs", "reftable", "worktrees")
"""Directories that are looked at with all that is in them."""


def snapshot(repo: Repository) -> str | None:
    """Return a digest that differs after any change of objects, refs, reflogs, indexes or settings of a repository.

    It is one of the stat data of the files of git, so it may be different although nothing has changed, and it does not
    see damage. Of the index of the current work tree the entries count, because ``git status`` writes it again.

    Returns:
        The digest; None if the repository borrows objects from another one, which may change.
    """
    objects = repo.common_dir / "objects"
    if (objects / "info" / "alternates").exists() or "GIT_ALTERNATE_OBJECT_DIRECTORIES" in os.environ:
        return None
    hasher = blake3()
    try:
        # Adding or removing an object changes the directory that it is in.
        for line in (*_files(repo), *_below(objects, levels=1)):
            hasher.update(os.fsencode(line) + b"\0")
        for name in _DEEP:
            for line in _below(repo.common_dir / name):
                hasher.update(os.fsencode(line) + b"\0")
    except OSError:  # changed while it was read
        return None
    return hasher.hexdigest()


def _files(repo: Repository) -> Iterator[str]:
    for name in _FILES:
        yield from _stat_of(repo.common_dir / name)
    main = repo.common_dir / "index"
    if repo.worktree is None or main != repo.index_path:
        yield from _stat_of(main)
    if repo.worktree is not None:
        yield repo.run("ls-files", "-s", "-z").decode(errors="surrogateescape")


def _below(folder: Path | str, levels: int = 100) -> Iterator[str]:
    """Yield a line for each file and directory in a directory, and in its directories."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in ordered:
        yield stat_line(entry.path, entry.stat(follow_symlinks=False))
        if levels > 1 and entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, levels - 1)


def _stat_of(path: Path) -> Iterator[str]:
    with suppress(FileNotFoundError):
        yield stat_line(str(path), path.stat())


def stat_line(path: str, stat: os.stat_result) -> str:
    """Return a line that differs after any change of a file, unless its file system is damaged."""
    return f"{path} {stat.st_mode} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
