"""Find out where models may be if the repository itself has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.attribute_lines import patterns, read
from git_theta_ext.git.entries import SUBMODULE
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.operations.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.repository import Repository

_WITH_MODELS = "submodule"


def submodules(repo: Repository, entries: Iterable[TreeEntry]) -> Iterator[Finding]:
    """Yield the submodules that have models, and those that are not checked out.

    Args:
        repo: The repository.
        entries: Its index.

    Raises:
        RepositoryError: There is no work tree.
    """
    for path in (entry.path for entry in entries if entry.mode == SUBMODULE):
        name = repo.argument(path)
        if not (worktree_of(repo) / path / ".git").exists():
            update = f"git submodule update --init {name}"
            yield Finding(
                "submodule_not_checked_out", f"{repo.shown(path)} is a submodule that is not checked out", update
            )
        elif tracks_models(repo, path):
            yield Finding(_WITH_MODELS, f"{repo.shown(path)} is a submodule with models", f"(cd {name} && git theta)")


def has_models(found: Iterable[Finding]) -> bool:
    """Return whether one of the submodules has models."""
    return any(finding.code == _WITH_MODELS for finding in found)


def tracks_models(repo: Repository, folder: str = "") -> bool:
    """Return whether a directory of the work tree tracks models, such as the top or a submodule."""
    return bool(patterns(read(worktree_of(repo) / folder / ".gitattributes")))
