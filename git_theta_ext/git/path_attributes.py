"""Git's attributes of paths in the work tree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.git.attributes import DRIVER, UNSET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.process import RunGit

MODEL_ATTRIBUTE = "theta-model"


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
    return [path for path, driver in _values(run, paths, "merge").items() if driver == DRIVER]


def _values(run: RunGit, paths: Iterable[str], attribute: str) -> dict[str, str]:
    """Return the value of an attribute of each path that has one."""
    request = b"".join(os.fsencode(path) + b"\0" for path in paths)
    answer = run("check-attr", "-z", "--stdin", attribute, input=request) if request else b""
    fields = [os.fsdecode(value) for value in answer.split(b"\0")][:-1]
    return {path: value for path, value in zip(fields[::3], fields[2::3], strict=True) if value not in UNSET}
