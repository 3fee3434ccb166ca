"""Git's attributes of paths in the work tree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.git.attributes import DRIVER, UNSET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.process import RunGit

MODEL_ATTRIBUTE = "theta-model"
_MERGE, _MARKER_SIZE = "merge", "conflict-marker-size"
DRIVER_ATTRIBUTES = (MODEL_ATTRIBUTE, _MERGE, _MARKER_SIZE)
"""What a merge driver asks of a path."""
_USUAL_SIZE = "7"


def model_names(run: RunGit, paths: Iterable[str]) -> dict[str, str]:
    """Return the value of the attribute ``theta-model`` of each path that has one.

    Args:
        run: Runs git, as ``Repository.run`` does.
        paths: Paths relative to the directory in which ``run`` runs git; they need not exist.
    """
    return _values(run, paths, MODEL_ATTRIBUTE)


def merged_by_driver(run: RunGit, paths: Iterable[str]) -> list[str]:
    """Return the paths for which git runs our merge driver.

    Args:
        run: Runs git, as ``Repository.run`` does.
        paths: Paths relative to the directory in which ``run`` runs git; they need not exist.
    """
    return [path for path, driver in _values(run, paths, _MERGE).items() if driver == DRIVER]


def marker_size(run: RunGit, path: str) -> int:
    """Return the length of a path's conflict markers.

    Args:
        run: Runs git, as ``Repository.run`` does.
        path: Path relative to the directory in which ``run`` runs git.
    """
    value = _values(run, [path], _MARKER_SIZE).get(path, "")
    return int(value if value.isdigit() and int(value) else _USUAL_SIZE)


def _values(run: RunGit, paths: Iterable[str], attribute: str) -> dict[str, str]:
    """Return the value of an attribute of each path that has one."""
    request = b"".join(os.fsencode(path) + b"\0" for path in paths)
    answer = run("check-attr", "-z", "--stdin", attribute, input=request) if request else b""
    fields = [os.fsdecode(value) for value in answer.split(b"\0")][:-1]
    return {path: value for path, value in zip(fields[::3], fields[2::3], strict=True) if value not in UNSET}
