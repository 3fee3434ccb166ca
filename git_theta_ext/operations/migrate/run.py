"""Rewrite history in either direction: what both have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from git_theta_ext.git.partial import bring_history, is_partial
from git_theta_ext.operations.migrate.checks import (
    check_history,
    check_other_work_trees,
    check_rewritten,
    check_work_tree,
    warn_of_remote_branches,
    warn_of_stashes,
)
from git_theta_ext.operations.migrate.finish import count_signatures, finish, finish_interrupted, state_folder
from git_theta_ext.operations.migrate.listing import list_files
from git_theta_ext.operations.migrate.refs import chosen_refs, tips_of
from git_theta_ext.operations.migrate.rewrite import rewrite
from git_theta_ext.records import dataclass, replace
from git_theta_ext.store.locks import file_lock

if TYPE_CHECKING:
    from git_theta_ext.operations.migrate.journal import Move
    from git_theta_ext.operations.migrate.listing import Listing
    from git_theta_ext.operations.migrate.refs import Ref
    from git_theta_ext.operations.migrate.rewrite import FileEdit
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class Scope:
    """Which history to rewrite.

    Attributes:
        names: Branches and tags; none for the current branch.
        everything: Whether to rewrite all branches and tags.
        dry_run: Whether to change nothing.
    """

    names: tuple[str, ...] = ()
    everything: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Migrated:
    """What a migration did, or would do.

    Attributes:
        commits: Number of commits.
        files: Number of paths with models.
        versions: Number of different versions of models.
        nbytes: Their size in bytes.
        left: Paths of models that stay as they are, and why.
        fetched: Number of objects of Git LFS that were fetched.
        fetched_bytes: Their size.
        signatures: Number of commits and tags that lose a signature; before the migration the largest possible number.
        moves: The refs that were rewritten.
        resumed: Whether this only completed an interrupted migration.
    """

    commits: int = 0
    files: int = 0
    versions: int = 0
    nbytes: int = 0
    left: tuple[tuple[str, str], ...] = ()
    fetched: int = 0
    fetched_bytes: int = 0
    signatures: int = 0
    moves: tuple[Move, ...] = ()
    resumed: bool = False


class Direction(Protocol):
    """Converts the versions of models."""

    def matches(self, path: bytes) -> bool:
        """Return whether a path is to be migrated."""
        ...

    def plan(self, listing: Listing, *, dry_run: bool) -> Migrated:
        """Return what there is to convert."""
        ...

    def convert(self, listing: Listing, planned: Migrated) -> tuple[FileEdit, Migrated]:
        """Convert it, and return how to rewrite commits, and what was converted of what was planned."""
        ...


def migrate(workspace: Workspace, scope: Scope, direction: Direction) -> Migrated:
    """Rewrite history.

    Raises:
        RepositoryError: The repository is in a state that a migration would lose or get wrong.
        MissingError: The content of a version is not available. Nothing has changed.
        UsageError: A ref is not valid.
    """
    repo = workspace.repo
    with file_lock(state_folder(repo) / "lock"):
        if not scope.dry_run and (moves := finish_interrupted(workspace)):
            return Migrated(moves=tuple(moves), resumed=True)
        check_history(repo)
        refs = chosen_refs(repo, scope.names, everything=scope.everything)
        if not scope.dry_run:
            check_work_tree(repo)
            check_other_work_trees(repo, [ref.name for ref in refs])
        warn_of_stashes(repo, workspace.reporter)
        if scope.everything:
            warn_of_remote_branches(repo, workspace.reporter)
        listing = list_history(workspace, refs, direction)
        planned = direction.plan(listing, dry_run=scope.dry_run)
        if scope.dry_run or not planned.versions:
            return replace(planned, signatures=count_signatures(repo, listing.commits, refs))
        edit, done = direction.convert(listing, planned)
        with workspace.reporter.progress("rewriting commits", len(listing.commits), counted=True) as advance:
            ids = rewrite(repo, tips_of(repo, refs), edit, state_folder(repo) / "marks", advance)
        check_rewritten(repo, tips_of(repo, refs), ids)
        rewritten = tuple(finish(workspace, refs, ids))
        moved = {move.ref for move in rewritten}
        changed = [old for old, new in ids.items() if old != new]
        signatures = count_signatures(repo, changed, [ref for ref in refs if ref.name in moved])
        return replace(done, signatures=signatures, moves=rewritten)


def list_history(workspace: Workspace, refs: list[Ref], direction: Direction) -> Listing:
    """List what history holds at the paths that match.

    Raises:
        RepositoryError: Git cannot read the commits.
    """
    tips = tips_of(workspace.repo, refs)
    if is_partial(workspace.repo):
        bring_history(workspace.repo, tips)
    with workspace.reporter.progress("reading commits", counted=True) as advance:
        return list_files(workspace.repo, tips, direction.matches, advance)
