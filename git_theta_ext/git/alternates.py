"""The folders that a repository borrows objects from (gitrepository-layout(5), ``objects/info/alternates``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.git.attributes import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

_VARIABLE = "GIT_ALTERNATE_OBJECT_DIRECTORIES"
_DEPTH = 5


def object_folders(objects: Path, folder: Path) -> tuple[Path, ...]:
    """Return the folders of objects that are read besides one, each once.

    Args:
        objects: The repository's own; what its file names counts from it.
        folder: Where git runs; what the environment names counts from there.
    """
    found: dict[Path, None] = {}
    _collect(objects, found, _DEPTH)
    _follow(folder, os.environ.get(_VARIABLE, "").split(os.pathsep), found, _DEPTH)
    found.pop(objects, None)  # which a quarantine borrows from
    return tuple(found)


def _collect(objects: Path, found: dict[Path, None], depth: int) -> None:
    try:
        lines = os.fsdecode((objects / "info" / "alternates").read_bytes()).split("\n")
    except OSError:
        return
    _follow(objects, (line for line in lines if not line.startswith("#")), found, depth)


def _follow(start: Path, names: Iterable[str], found: dict[Path, None], depth: int) -> None:
    for name in filter(None, names):
        quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
        other = Path(os.path.normpath(start / (unquote(name[1:-1]) if quoted else name)))
        if other not in found and depth > 0:
            found[other] = None
            _collect(other, found, depth - 1)
