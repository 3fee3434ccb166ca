"""Convert each version of a model in history to a manifest, and store its tensors."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError, MissingError
from git_theta_ext.git.blobs import BlobReader, BlobWriter
from git_theta_ext.git.objects import object_infos, read_manifests, read_objects
from git_theta_ext.model.manifest import is_manifest
from git_theta_ext.operations.migrate.original import OriginalReader
from git_theta_ext.operations.migrate.original_metadata import parse_original
from git_theta_ext.operations.migrate.pointers import has_extensions, old_pointer
from git_theta_ext.protocol.lfs.pointer import MAX_POINTER, Pointer
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.util.file_bytes import FileBytes, open_bytes
from git_theta_ext.util.files import reporting_os_errors, reporting_read_errors
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import IO

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.migrate.journal import Journal
    from git_theta_ext.operations.migrate.lfs_storage import LfsStorage
    from git_theta_ext.operations.migrate.original_files import FileKind
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class Sources:
    """What the blobs to migrate are.

    Attributes:
        plain: Models that git stores as they are, or manifests, with their sizes.
        pointers: Pointers of Git LFS.
        missing: Blobs whose content cannot be read, with the objects that are missing; none if it has extensions.
        originals: The files of git-theta 0.2.0 among the plain blobs, and the objects that they name.
        extended: Pointers of Git LFS with extensions, which only their programs can follow.
    """

    plain: Mapping[str, int]
    pointers: Mapping[str, Pointer]
    missing: Mapping[str, frozenset[Pointer]] = field(default_factory=dict)
    originals: Mapping[str, frozenset[Pointer]] = field(default_factory=dict)
    extended: frozenset[str] = frozenset()

    @property
    def nbytes(self) -> int:
        """Size of the models that can be migrated, in bytes."""
        return sum(self.size(oid) for oid in (*self.plain, *self.pointers) if oid not in self.missing)

    @property
    def lacking(self) -> set[Pointer]:
        """The objects of Git LFS that are missing."""
        return {pointer for pointers in self.missing.values() for pointer in pointers}

    def size(self, oid: str) -> int:
        """Return the size of the model that a blob is, or points to. What git-theta 0.2.0 stored was compressed."""
        if oid in self.originals:
            return sum(pointer.size for pointer in self.originals[oid])
        pointer = self.pointers.get(oid)
        return self.plain[oid] if pointer is None else pointer.size


def classify(repo: Repository, oids: Iterable[str], storage: LfsStorage) -> Sources:
    """Find out what some blobs are.

    Raises:
        RepositoryError: Git cannot read them.
    """
    infos = object_infos(repo, oids)
    small = [oid for oid, info in infos.items() if info.nbytes <= MAX_POINTER]
    pointers: dict[str, Pointer] = {}
    extended: set[str] = set()
    for oid, data in read_objects(repo, small):
        if (pointer := old_pointer(data)) is not None:
            pointers[oid] = pointer
        elif has_extensions(data):
            extended.add(oid)
    plain = {oid: info.nbytes for oid, info in infos.items() if oid not in pointers}
    return checked(Sources(plain, pointers, extended=frozenset(extended)), storage)


def checked(sources: Sources, storage: LfsStorage) -> Sources:
    """Return the same blobs with what is missing now."""
    named = {oid: frozenset((pointer,)) for oid, pointer in sources.pointers.items()} | dict(sources.originals)
    absent = set(storage.missing({pointer for pointers in named.values() for pointer in pointers}))
    missing = {oid: lacking for oid, pointers in named.items() if (lacking := pointers & absent)}
    return replace(sources, missing={**missing, **dict.fromkeys(sources.extended, frozenset[Pointer]())})


def still_stored(workspace: Workspace, journal: Journal) -> dict[str, str]:
    """Return what a journal says has become what, without the manifests that git or the store no longer has.

    Raises:
        RepositoryError: Git cannot read its objects.
    """
    store = workspace.store
    manifests = read_manifests(workspace.repo, {new: new for new in journal.pairs.values()})
    absent = store.touch_and_find_missing({digest for one in manifests.values() for digest, _ in one.digests()})
    whole = {oid for oid, one in manifests.items() if not absent.intersection(digest for digest, _ in one.digests())}
    return {old: new for old, new in journal.pairs.items() if new in whole}


@dataclass(frozen=True)
class Converter:
    """Stores the tensors of models, and their manifests as blobs.

    Attributes:
        workspace: The repository and its store.
        sources: What the blobs are.
        storage: Holds the objects of Git LFS.
        journal: Is completed; what it has already is not done again.
        kind: The format in which to restore checkpoints of git-theta 0.2.0; None if each of them decides.
        allow_missing: Whether one of them may stay as it is if an object is missing.
        left: Is filled with the blobs that stay for that reason, and what is missing.
    """

    workspace: Workspace
    sources: Sources
    storage: LfsStorage
    journal: Journal
    kind: FileKind | None = None
    allow_missing: bool = False
    left: dict[str, str] = field(default_factory=dict)

    def run(self, files: Mapping[str, bytes], advance: Callable[[int], None]) -> dict[str, str]:
        """Convert blobs.

        Args:
            files: Blob to a path for messages, in the order in which they are converted.
            advance: Called with the number of bytes done since the last call.

        Returns:
            Blob to the manifest's blob. Manifests and pointers without content are left out.

        Raises:
            CorruptError: An object of Git LFS is damaged.
            StoreError: The store cannot be written.
            RepositoryError: Git cannot read or write an object.
        """
        converted = {old: new for old, new in still_stored(self.workspace, self.journal).items() if old in files}
        advance(sum(map(self.sources.size, converted)))
        scratch = self.journal.scratch
        with BlobReader(self.workspace.repo) as blobs, BlobWriter(self.workspace.repo) as writer:
            reader = VersionReader(self.sources, self.storage, blobs, self.workspace.store.root)
            for oid, path in files.items():
                if oid in converted or oid in self.sources.missing:
                    continue
                manifest = self._manifest(oid, path.decode("utf-8", "surrogateescape"), reader, advance)
                if manifest is not None:
                    with reporting_os_errors(scratch):
                        scratch.write_bytes(manifest)
                    converted[oid] = writer.store(scratch)
                    self.journal.add(oid, converted[oid])
        return converted

    def _manifest(self, oid: str, path: str, reader: VersionReader, advance: Callable[[int], None]) -> bytes | None:
        with reader.open(oid, path) as file:
            content = FileBytes(file.fileno(), path)
        if is_manifest(content) or not content.nbytes:
            advance(content.nbytes)
            return None
        try:
            original = parse_original(content)
        except FormatError as error:
            self.workspace.reporter.warning(f"{shown_path(path)}: {error.message}; stored as it is")
            original = None
        if original is None:
            return self._clean(content, advance)
        file_path = self.journal.scratch.with_name("checkpoint")
        try:
            OriginalReader(self.workspace, self.storage, self.kind).write(original, path, file_path)
            manifest = self._clean(open_bytes(file_path, path), no_progress)
        except MissingError as error:  # of an earlier version, to which it is an update
            if not self.allow_missing:
                raise
            self.left[oid] = error.message.splitlines()[0].removeprefix(f"{shown_path(path)}: ")
            return None
        finally:
            file_path.unlink(missing_ok=True)
        advance(self.sources.size(oid))
        return manifest

    def _clean(self, content: FileBytes, advance: Callable[[int], None]) -> bytes:
        warn = self.workspace.reporter.warning
        return clean_version(self.workspace.store, content, warn, advance).to_bytes()


@dataclass(frozen=True)
class VersionReader:
    """Opens the content of versions.

    Attributes:
        sources: What the blobs are.
        storage: Holds the objects of Git LFS.
        blobs: Reads blobs.
        folder: A directory for temporary files.
    """

    sources: Sources
    storage: LfsStorage
    blobs: BlobReader
    folder: Path

    def open(self, oid: str, path: str) -> IO[bytes]:
        """Open a version as a file, which the caller closes.

        Args:
            oid: Its blob.
            path: For messages.

        Raises:
            CorruptError: An object of Git LFS is damaged.
            RepositoryError: Git cannot read the blob.
        """
        pointer = self.sources.pointers.get(oid)
        if pointer is None or not pointer.size:
            with reporting_os_errors(self.folder):
                file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - the caller closes it
                if pointer is None:
                    self.blobs.copy(oid, file)
                file.flush()
            return file
        place = self.storage.path(pointer)
        if not self.storage.is_sound(pointer):
            raise CorruptError(
                f"{shown_path(path)}: the object {pointer.oid} of Git LFS is damaged",
                hint=f"rm {shell_word(str(place))}; then it is fetched again",
            )
        with reporting_read_errors(place):
            return place.open("rb")


def clean_version(
    store: Store, content: FileBytes, warn: Callable[[str], None], advance: Callable[[int], None] = no_progress
) -> Manifest:
    """Store the tensors of a model and return its manifest. If the model is malformed, it is stored as an opaque file.

    Raises:
        StoreError: The store cannot be written.
    """
    from git_theta_ext.checkpoint.clean import clean

    described = clean(content, content.path, store, advance=advance)
    if described.scan.malformed is not None:
        warn(f"{described.scan.malformed.message}; stored as an opaque file")
    return described.manifest
