"""Rewrite history from plain git or Git LFS to git theta."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import MissingError
from git_theta_ext.git.commit_attributes import theta_paths_at
from git_theta_ext.operations.migrate.attribute_blobs import AttributeBlobs
from git_theta_ext.operations.migrate.attributes import Tracked, macros_of, to_theta
from git_theta_ext.operations.migrate.conversion import Converter, Sources, checked, classify
from git_theta_ext.operations.migrate.finish import state_folder
from git_theta_ext.operations.migrate.journal import Journal
from git_theta_ext.operations.migrate.lfs_fetch import fetch_objects
from git_theta_ext.operations.migrate.lfs_storage import LfsStorage
from git_theta_ext.operations.migrate.original_listing import objects_of_originals
from git_theta_ext.operations.migrate.patterns import path_matcher
from git_theta_ext.operations.migrate.rewrite import FileEdit
from git_theta_ext.operations.migrate.run import Migrated, migrate
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.listing import Listing
    from git_theta_ext.operations.migrate.original_files import FileKind
    from git_theta_ext.operations.migrate.run import Scope
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.protocol.lfs.pointer import Pointer

_MOST_CHECKED = 16
"""Refs whose attributes are checked afterwards."""
_EXTENDED = "the pointer of Git LFS has extensions, which only their programs can follow"


def import_history(
    workspace: Workspace,
    scope: Scope,
    tracked: Tracked,
    *,
    allow_missing: bool = False,
    kind: FileKind | None = None,
) -> Migrated:
    """Rewrite history from plain git or Git LFS to git theta.

    Args:
        workspace: The repository and its store.
        scope: Which history to rewrite.
        tracked: The paths of models.
        allow_missing: Whether to keep pointers of Git LFS whose content is not available.
        kind: The format in which to restore checkpoints of git-theta 0.2.0; by default each of them decides.

    Raises:
        RepositoryError: The repository is in a state that a migration would lose or get wrong.
        MissingError: Objects of Git LFS are missing. Nothing has changed.
        UsageError: A pattern or a ref is not valid.
    """
    with path_matcher(workspace.repo, tracked.include, tracked.exclude) as matches:
        direction = _Import(workspace, tracked, matches, allow_missing, kind)
        done = migrate(workspace, scope, direction)
    for move in done.moves[:_MOST_CHECKED]:
        if wrong := unfiltered(workspace.repo, move.new, direction.manifests):
            workspace.reporter.warning(
                f"{move.ref}: {shortlist(wrong)} would be checked out as text: attributes give another filter",
                f"git check-attr -a -- {shell_word(wrong[0])}",
            )
    return done


def unfiltered(repo: Repository, commit: str, manifests: Container[str]) -> list[str]:
    """Return the paths of manifests that the ``.gitattributes`` of a commit do not give to git theta.

    Args:
        repo: The repository.
        commit: The commit, or a tag.
        manifests: Blobs of manifests.
    """
    paths = [entry.path for entry in repo.entries(commit) if entry.oid in manifests]
    return sorted(set(paths).difference(theta_paths_at(repo, commit, paths)))


@dataclass
class _Import:
    """Converts models to manifests.

    Attributes:
        workspace: The repository and its store.
        tracked: The paths of models.
        matches: Returns whether a path is one of them.
        allow_missing: Whether pointers of Git LFS may stay.
        kind: The format in which to restore checkpoints of git-theta 0.2.0.
        manifests: The blobs of manifests, when they are stored.
    """

    workspace: Workspace
    tracked: Tracked
    matches: Callable[[bytes], bool]
    allow_missing: bool
    kind: FileKind | None = None
    manifests: set[str] = field(default_factory=set)
    _sources: Sources | None = None

    def plan(self, listing: Listing, *, dry_run: bool) -> Migrated:
        """Return what there is to convert, after objects of Git LFS that are missing were fetched."""
        repo = self.workspace.repo
        storage = LfsStorage.of(repo)
        sources = classify(repo, listing.files, storage)
        originals = objects_of_originals(repo, listing, sources.plain, self.kind)
        sources = checked(replace(sources, originals=originals), storage)
        wanted = sources.lacking
        if dry_run:  # they would be fetched
            sources = replace(sources, missing={oid: one for oid, one in sources.missing.items() if not one})
        else:
            reasons = fetch_objects(self.workspace, storage, wanted).reasons
            sources = checked(sources, storage)
            if sources.missing and not self.allow_missing:
                raise _missing(sources, listing, reasons)
        missing = sources.missing
        fetched = wanted - {pointer for pointers in missing.values() for pointer in pointers}
        self._sources = sources
        return Migrated(
            commits=len(listing.commits),
            files=len(listing.paths),
            versions=len(listing.files) - len(missing),
            nbytes=sources.nbytes,
            left=tuple((text(listing.files[oid]), _reason(pointers)) for oid, pointers in missing.items()),
            fetched=len(fetched),
            fetched_bytes=sum(pointer.size for pointer in fetched),
        )

    def convert(self, listing: Listing, planned: Migrated) -> tuple[FileEdit, Migrated]:
        """Store the tensors of all versions, and return how to rewrite commits."""
        workspace, repo, sources = self.workspace, self.workspace.repo, self._sources
        assert sources is not None
        name = f"imported-{self.kind}" if self.kind else "imported"
        with (
            Journal(state_folder(repo) / name) as journal,
            workspace.reporter.progress("storing models", sources.nbytes) as advance,
        ):
            converter = Converter(workspace, sources, LfsStorage.of(repo), journal, self.kind, self.allow_missing)
            blobs = converter.run(listing.files, advance)
        self.manifests.update(blobs.values())
        attributes = AttributeBlobs.of(repo, listing.attributes)
        macros = {name for old in attributes.at_top() for name in macros_of(old)}
        default = attributes.store(to_theta("", self.tracked))

        def edit(text: str, folder: str) -> str:
            return to_theta(text, self.tracked, folder, macros)

        edited, later = attributes.edited(edit), attributes.extended(edit)
        done = replace(
            planned,
            versions=planned.versions - len(converter.left),
            nbytes=planned.nbytes - sum(map(sources.size, converter.left)),
            left=(*planned.left, *((text(listing.files[oid]), reason) for oid, reason in converter.left.items())),
        )
        return FileEdit(self.matches, blobs, edited, later, default), done


def _missing(sources: Sources, listing: Listing, reasons: Iterable[str]) -> MissingError:
    paths = shortlist(dict.fromkeys(text(listing.files[oid]) for oid in sources.missing))
    hint = "git theta migrate import --include PATTERN --allow-missing leaves these versions as they are"
    if not sources.lacking:
        return MissingError(f"{paths}: {_EXTENDED}", hint=hint)
    objects = f"{plural(len(sources.lacking), 'object')} of Git LFS cannot be fetched, of {paths}"
    return MissingError("\n".join((objects, *reasons)), hint=hint)


def _reason(missing: Iterable[Pointer]) -> str:
    oids = sorted(pointer.oid for pointer in missing)
    return f"{'object' if len(oids) == 1 else 'objects'} {shortlist(oids, 1)} of Git LFS missing" if oids else _EXTENDED


def text(path: bytes) -> str:
    """Return a path as text."""
    return path.decode("utf-8", "surrogateescape")
