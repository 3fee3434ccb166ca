"""Rewrite history from git theta to Git LFS or to plain git."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import ManifestError, RepositoryError
from git_theta_ext.git.blobs import BlobWriter
from git_theta_ext.git.objects import manifest_blobs, object_infos, read_objects
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.migrate.attribute_blobs import AttributeBlobs
from git_theta_ext.operations.migrate.attributes import from_theta
from git_theta_ext.operations.migrate.conversion import classify
from git_theta_ext.operations.migrate.finish import state_folder
from git_theta_ext.operations.migrate.importing import text
from git_theta_ext.operations.migrate.journal import Journal
from git_theta_ext.operations.migrate.lfs_storage import LfsStorage
from git_theta_ext.operations.migrate.rewrite import FileEdit
from git_theta_ext.operations.migrate.run import Migrated, migrate
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.protocol.lfs.pointer import Pointer
from git_theta_ext.records import dataclass, field
from git_theta_ext.store.temporary import temporary
from git_theta_ext.util.files import reporting_os_errors, reporting_read_errors, sha256_of
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.migrate.listing import Listing
    from git_theta_ext.operations.migrate.run import Scope
    from git_theta_ext.operations.workspace import Workspace


def export_history(workspace: Workspace, scope: Scope, *, lfs: bool) -> Migrated:
    """Rewrite history from git theta to Git LFS or to plain git.

    Args:
        workspace: The repository and its store.
        scope: Which history to rewrite.
        lfs: Whether to put models into Git LFS, or into git itself.

    Raises:
        RepositoryError: The repository is in a state that a migration would lose or get wrong.
        MissingError: Parameters are nowhere. Nothing has changed.
        UsageError: A ref is not valid.
    """
    if lfs and not workspace.repo.run("config", "filter.lfs.smudge", check=False):
        raise RepositoryError("git is not configured to use Git LFS", hint="git lfs install")
    return migrate(workspace, scope, _Export(workspace, lfs))


@dataclass
class _Export:
    """Converts manifests to what they stand for."""

    workspace: Workspace
    lfs: bool
    _manifests: dict[str, int] = field(default_factory=dict)
    """Blob to the size of the model."""
    _digests: set[Digest] = field(default_factory=set)

    def matches(self, path: bytes) -> bool:  # noqa: ARG002 - as Direction
        """Return whether a path may have manifests, which only their content shows."""
        return True

    def plan(self, listing: Listing, *, dry_run: bool) -> Migrated:  # noqa: ARG002 - as Direction
        """Return what there is to convert."""
        left: list[tuple[str, str]] = []
        for oid, content in manifest_blobs(self.workspace.repo, object_infos(self.workspace.repo, listing.files)):
            try:
                manifest = Manifest.parse(content)
            except ManifestError as error:
                left.append((text(listing.files[oid]), error.message))
                continue
            if manifest.conflicted:
                left.append((text(listing.files[oid]), "the manifest has conflicts"))
                continue
            self._digests.update(digest for digest, _ in manifest.digests())
            self._manifests[oid] = sum(parameter.spec.nbytes for parameter in manifest.parameters.values())
        paths = {listing.files[oid] for oid in self._manifests}
        total = sum(self._manifests.values())
        return Migrated(len(listing.commits), len(paths), len(self._manifests), total, tuple(left))

    def convert(self, listing: Listing, planned: Migrated) -> tuple[FileEdit, Migrated]:
        """Write all versions, and return how to rewrite commits."""
        workspace, repo = self.workspace, self.workspace.repo
        with workspace.reporter.progress("fetching") as advance:
            ensure_digests(workspace, self._digests, advance)
        name = "exported-lfs" if self.lfs else "exported-plain"
        with (
            Journal(state_folder(repo) / name) as journal,
            workspace.reporter.progress("writing models", sum(self._manifests.values())) as advance,
        ):
            blobs = self._run(journal, listing.files, advance)
        edited = AttributeBlobs.of(repo, listing.attributes).edited(lambda old, _: from_theta(old, lfs=self.lfs))
        return FileEdit(self.matches, blobs, edited), planned

    def _run(self, journal: Journal, paths: Mapping[str, bytes], advance: Callable[[int], None]) -> dict[str, str]:
        repo, storage = self.workspace.repo, LfsStorage.of(self.workspace.repo)
        sources = classify(repo, journal.pairs.values(), storage)
        stored = {*sources.plain, *sources.pointers} - sources.missing.keys()
        done = {old: new for old, new in journal.pairs.items() if old in self._manifests and new in stored}
        advance(sum(self._manifests[oid] for oid in done))
        with BlobWriter(repo) as writer:
            for oid, content in read_objects(repo, [oid for oid in self._manifests if oid not in done]):
                file = storage.temporary() if self.lfs else temporary(self.workspace.store.root)
                try:
                    self._write(Manifest.parse(content), file, text(paths[oid]), advance)
                    done[oid] = writer.store(_as_pointer(file, storage, journal.scratch) if self.lfs else file)
                finally:
                    file.unlink(missing_ok=True)
                journal.add(oid, done[oid])
        return done

    def _write(self, manifest: Manifest, file: Path, path: str, advance: Callable[[int], None]) -> None:
        try:
            populate(manifest, self.workspace.store, file, Expected.at(file), advance)
        except ManifestError as error:
            raise ManifestError(f"{shown_path(path)}: {error.message}", hint=error.hint) from error


def _as_pointer(file: Path, storage: LfsStorage, scratch: Path) -> Path:
    """Move a file into Git LFS, and return a file with its pointer."""
    with reporting_read_errors(file):
        pointer = Pointer(sha256_of(file), file.stat().st_size)
    if not pointer.size:  # Git LFS leaves empty files to git
        return file
    with reporting_os_errors(file):
        storage.add(file, pointer)
        scratch.write_bytes(pointer.text())
    return scratch
