"""Rewrite history so that git theta versions the models in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.diff.words import plural
from git_theta_ext.errors import MissingError, RepositoryError
from git_theta_ext.git.objects import read_objects, write_blob
from git_theta_ext.git.partial import bring_history, is_partial
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.migrate.attributes import MAX_ATTRIBUTES, Tracked, macros_of, to_theta
from git_theta_ext.operations.migrate.checks import (
    check_history,
    check_other_work_trees,
    check_work_tree,
    warn_of_stashes,
)
from git_theta_ext.operations.migrate.conversion import Converter, classify
from git_theta_ext.operations.migrate.finish import count_signatures, finish, finish_interrupted, state_folder
from git_theta_ext.operations.migrate.journal import Journal
from git_theta_ext.operations.migrate.lfs_storage import LfsStorage, fetch_all
from git_theta_ext.operations.migrate.listing import list_files
from git_theta_ext.operations.migrate.patterns import path_matcher
from git_theta_ext.operations.migrate.refs import chosen_refs, tips_of
from git_theta_ext.operations.migrate.rewrite import FileEdit, rewrite
from git_theta_ext.store.locks import file_lock
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.conversion import Sources
    from git_theta_ext.operations.migrate.journal import Move
    from git_theta_ext.operations.migrate.listing import Listing
    from git_theta_ext.operations.migrate.refs import Ref
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class Wish:
    """What to migrate.

    Attributes:
        include: Patterns of the paths of models, as in ``.gitattributes``.
        exclude: Patterns of paths that are left out.
        names: Branches and tags to rewrite; none for the current branch.
        everything: Whether to rewrite all branches and tags.
        allow_missing: Whether pointers of Git LFS may stay whose content cannot be had.
        dry_run: Whether to change nothing.
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    everything: bool = False
    allow_missing: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Migrated:
    """What a migration did, or would do.

    Attributes:
        commits: Number of commits.
        files: Number of paths with models.
        versions: Number of different versions of models.
        nbytes: Their size in bytes.
        left: Paths of pointers that stay, as their content is missing, with the ids of their content.
        signatures: Number of signatures of commits and tags that are dropped.
        moves: The refs that were rewritten.
        resumed: Whether this only completed an interrupted migration.
    """

    commits: int = 0
    files: int = 0
    versions: int = 0
    nbytes: int = 0
    left: tuple[tuple[str, str], ...] = ()
    signatures: int = 0
    moves: tuple[Move, ...] = ()
    resumed: bool = False


def migrate_import(workspace: Workspace, wish: Wish) -> Migrated:
    """Rewrite history from plain git or Git LFS to git theta.

    Raises:
        RepositoryError: The repository is in a state that a migration would lose or get wrong.
        MissingError: Objects of Git LFS are missing. Nothing has changed.
        UsageError: A pattern or a ref is not valid.
    """
    repo = workspace.repo
    with file_lock(state_folder(repo) / "lock"):
        if not wish.dry_run and (moves := finish_interrupted(workspace)):
            return Migrated(moves=tuple(moves), resumed=True)
        check_history(repo)
        refs = chosen_refs(repo, wish.names, everything=wish.everything)
        if not wish.dry_run:
            check_work_tree(repo)
            check_other_work_trees(repo, [ref.name for ref in refs])
        warn_of_stashes(repo, workspace.reporter)
        with path_matcher(repo, wish.include, wish.exclude) as matches:
            return _import(workspace, wish, refs, matches)


def _import(workspace: Workspace, wish: Wish, refs: Sequence[Ref], matches: Callable[[bytes], bool]) -> Migrated:
    repo = workspace.repo
    tips = tips_of(repo, refs)
    if is_partial(repo):
        bring_history(repo, tips)
    with workspace.reporter.progress("reading commits") as advance:
        listing = list_files(repo, tips, matches, advance)
    storage = LfsStorage.of(repo)
    sources = _sources(workspace, listing, storage, wish)
    planned = Migrated(
        len(listing.commits),
        len(listing.paths),
        len(listing.files) - len(sources.missing),
        sources.nbytes,
        tuple((_text(listing.files[oid]), pointer.sha256) for oid, pointer in sources.missing.items()),
        count_signatures(repo, listing.commits, refs),
    )
    if wish.dry_run or not planned.versions:
        return planned
    with (
        Journal(state_folder(repo) / "imported") as journal,
        workspace.reporter.progress("storing models", sources.nbytes) as advance,
    ):
        blobs = Converter(workspace, sources, storage, journal).run(listing.files, advance)
    tracked = Tracked(wish.include, wish.exclude)
    edit = FileEdit(matches, blobs, *_attributes(repo, listing, tracked))
    with workspace.reporter.progress("rewriting commits", len(listing.commits)) as advance:
        ids = rewrite(repo, tips, edit, state_folder(repo) / "marks", advance)
    return replace(planned, moves=tuple(finish(workspace, refs, ids)))


def _sources(workspace: Workspace, listing: Listing, storage: LfsStorage, wish: Wish) -> Sources:
    """Return what the blobs are, after objects of Git LFS that are missing were fetched."""
    repo = workspace.repo
    sources = classify(repo, listing.files, storage)
    if not sources.missing or wish.dry_run:
        return sources
    remote = push_remote(repo)
    if remote is not None and fetch_all(repo, remote):
        sources = classify(repo, listing.files, storage)
    if sources.missing and not wish.allow_missing:
        paths = shortlist(dict.fromkeys(_text(listing.files[oid]) for oid in sources.missing))
        raise MissingError(
            f"{plural(len(sources.missing), 'object')} of Git LFS cannot be had, of {paths}",
            hint="git lfs fetch --all REMOTE; --allow-missing migrates the others",
        )
    return sources


def _attributes(repo: Repository, listing: Listing, tracked: Tracked) -> tuple[Mapping[tuple[bytes, str], str], str]:
    """Return the new blob of each version of each ``.gitattributes``, and that of commits that have none."""
    texts: dict[str, str] = {}
    for oid, content in read_objects(repo, {oid for _, oid in listing.attributes}):
        if len(content) > MAX_ATTRIBUTES:
            raise RepositoryError(f"the .gitattributes {oid} has {len(content)} bytes", hint=f"git show {quote(oid)}")
        texts[oid] = content.decode("utf-8", "surrogateescape")
    macros = {name for folder, oid in listing.attributes if not folder for name in macros_of(texts[oid])}
    known: dict[str, str] = {}

    def blob(text: str) -> str:
        if text not in known:
            known[text] = write_blob(repo, text.encode("utf-8", "surrogateescape"))
        return known[text]

    edited = {(folder, oid): to_theta(texts[oid], tracked, _text(folder), macros) for folder, oid in listing.attributes}
    return {key: blob(text) for key, text in edited.items()}, blob(to_theta("", tracked))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
