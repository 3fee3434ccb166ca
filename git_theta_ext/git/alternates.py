"""The directories that a repository borrows objects from (gitrepository-layout(5), ``objects/info/alternates``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.util.quoting import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

_VARIABLE = "GIT_ALTERNATE_OBJECT_DIRECTORIES"
_DEPTH = 5


def object_folders(objects: Path, folder: Path) -> tuple[Path, ...]:
    """Return the other object directories that git reads, each once.

    Args:
        objects: The repository's own object directory; relative paths in its alternates file start here.
        folder: The directory in which git runs; relative paths in the environment start here.
    """
    directories: dict[Path, None] = {}
    _collect(objects, directories, _DEPTH)
    _follow(folder, os.environ.get(_VARIABLE, "").split(os.pathsep), directories, _DEPTH)
    directories.pop(objects, None)  # a quarantine directory has it as an alternate
    return tuple(directories)


def _collect(objects: Path, directories: dict[Path, None], depth: int) -> None:
    try:
        lines = os.fsdecode((objects / "info" / "alternates").read_bytes()).split("\n")
    except OSError:
        return
    _follow(objects, (line for line in lines if not line.startswith("#")), directories, depth)


def _follow(start: Path, names: Iterable[str], directories: dict[Path, None], depth: int) -> None:
    for name in filter(None, names):
        quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
        other = Path(os.path.normpath(start / (unquote(name[1:-1]) if quoted else name)))
        if other not in directories and depth > 0:
            directories[other] = None
            _collect(other, directories, depth - 1)
