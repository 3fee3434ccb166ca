"""Find the versions of models that callers of the Python API name."""

from __future__ import annotations

import logging
import os
import pathlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, ThetaError, UsageError
from git_theta_ext.operations.model_names import find_version
from git_theta_ext.util.text import indented

if TYPE_CHECKING:
    from collections.abc import Iterator

    import git

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.model_version import ModelVersion

    Path = str | os.PathLike[str]
    Place = str | os.PathLike[str] | git.Repo
    Revision = str | git.Commit

LOG = logging.getLogger("git_theta_ext")


@contextmanager
def explained() -> Iterator[None]:
    """Format errors for a terminal, as the command line does, and add their hints to tracebacks."""
    try:
        yield
    except ThetaError as error:
        error.message = indented(error.message)
        if error.hint is not None and sys.version_info >= (3, 11):
            error.add_note(f"hint: {indented(error.hint)}")
        raise


def folder_of(repository: Place) -> pathlib.Path:
    """Return a directory in a repository.

    Raises:
        UsageError: It is neither a directory nor a ``git.Repo``.
    """
    if isinstance(repository, str | os.PathLike):
        return pathlib.Path(repository)
    folder = getattr(repository, "working_tree_dir", None) or getattr(repository, "git_dir", None)
    if not isinstance(folder, str | os.PathLike):
        raise UsageError(
            f"a repository is a directory or a git.Repo, not {type(repository).__name__}", hint='repository="."'
        )
    return pathlib.Path(folder)


def revision_name(rev: Revision) -> str:
    """Return the name of a revision.

    Args:
        rev: A revision, or a commit of GitPython.

    Raises:
        UsageError: It is neither a text nor a commit.
    """
    name = rev if isinstance(rev, str) else getattr(rev, "hexsha", None)
    if not isinstance(name, str):
        raise UsageError(f"a revision is a text or a git.Commit, not {type(rev).__name__}", hint='rev="HEAD"')
    return name


def version_name(path: str, rev: Revision | None) -> str:
    """Return ``REV:PATH``; without a revision, the path may have it already, and else that is ``HEAD``."""
    if rev is None:
        return path if ":" in path else f"HEAD:{path}"
    return f"{revision_name(rev)}:{path}"


def version_of(repo: Repository, name: str, folder: pathlib.Path) -> ModelVersion:
    """Return the version of a model that ``REV:PATH`` names.

    Args:
        repo: The repository.
        name: The version.
        folder: The directory that relative paths start from.

    Raises:
        MergeError: It has conflicts, or no parameters.
        ThetaError: See ``git_theta_ext.operations.model_names.find_version``.
    """
    version = find_version(repo, name, command="git theta show {}", cwd=folder)
    if any(shard.conflicted for shard in version.shards.values()):
        raise MergeError(
            f"{name} was committed with conflicts", hint="resolve them there: git theta resolve, then git commit"
        )
    if version.format == "opaque":
        raise MergeError(f"{name} is in the format opaque, which has no parameters")
    return version
