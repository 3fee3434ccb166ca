"""Write packs: encode in threads, stream to temporary files, make durable, rename into place."""

from __future__ import annotations

import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.interfaces import Chunk
from git_theta_ext.model.dtypes import SKELETON
from git_theta_ext.model.tensor import Digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.format import Entry, chunk_count, chunk_range, write_header
from git_theta_ext.util.files import reporting_os_errors, sha256_of, sync_directories, sync_file
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import TensorSource
    from git_theta_ext.model.tensor import TensorSpec

SMALL = 1 << 18
"""Tensors below this many bytes share packs."""

SHARED_PACK = 1 << 24
"""The most bytes, before encoding, of tensors that share a pack."""

UNNAMED = Digest("0" * 64)
"""The digest of a blob whose tensor was not read yet."""

_STALE_SECONDS = 24 * 3600
_FINISHERS = 4


@dataclass(frozen=True)
class NewBlob:
    """A tensor or skeleton to be written.

    Attributes:
        digest: Trusted, unless there is a check; ``UNNAMED`` if only the check knows it.
        spec: Element type and shape.
        encode: Returns the payload of a chunk, in pieces, by its number; called in threads.
        encoding: Name of the encoding.
        bases: What it is coded against.
        params: What the decoder has to know.
        check: Called when every chunk is encoded; returns the digest of what was encoded, and raises an error if that
            is not the tensor that was meant.
    """

    digest: Digest
    spec: TensorSpec
    encode: Callable[[int], list[Buffer]]
    encoding: str = "dense"
    bases: tuple[Digest, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[], Digest] | None = None

    def encoded(self) -> Digest:
        """Return the digest of what was encoded, once every chunk was."""
        return self.digest if self.check is None else self.check()


def dense_blob(digest: Digest, target: Callable[[], TensorSource]) -> NewBlob:
    """Return a blob that leans on nothing.

    Args:
        digest: Trusted.
        target: Opens the tensor for reading; called for each chunk.
    """
    encoding, spec = find_encoding("dense"), target().spec

    def encode(number: int) -> list[Buffer]:
        start, end = chunk_range(spec, number)
        return encoding.encode(Chunk(spec, start), target().read(start, end))

    return NewBlob(digest, spec, encode)


def grouped(blobs: Iterable[NewBlob]) -> list[list[NewBlob]]:
    """Distribute blobs over packs: each large tensor by itself, small ones together in the order they come.

    A skeleton has a pack of its own as well: it outlives the small tensors that it was first stored with.
    """
    packs: list[list[NewBlob]] = []
    shared: list[NewBlob] = []
    filled = 0
    for blob in blobs:
        nbytes = blob.spec.nbytes
        if nbytes >= SMALL or blob.spec.dtype is SKELETON:
            packs.append([blob])
            continue
        if shared and filled + nbytes > SHARED_PACK:
            packs.append(shared)
            shared, filled = [], 0
        shared.append(blob)
        filled += nbytes
    return [*packs, shared] if shared else packs


def pack_path(root: Path, name: str) -> Path:
    """Return the place of a pack."""
    return root / "packs" / name[:2] / name


def temporary(root: Path) -> Path:
    """Return a name for a file in the making, on the store's file system."""
    folder = root / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / secrets.token_hex(16)


def clear_stale(root: Path) -> None:
    """Remove files in the making that a crash left a day ago or longer."""
    with suppress(FileNotFoundError):
        for left in (root / "tmp").iterdir():
            with suppress(OSError):
                found = left.stat()
                # A second name of a file may be as old as the file, and be made this moment.
                if found.st_nlink == 1 and time.time() - found.st_mtime > _STALE_SECONDS:
                    left.unlink()


def place_pack(root: Path, unfinished: Path, name: str) -> set[Path]:
    """Rename a complete pack into place; it is durable when the folders returned are synced."""
    final = pack_path(root, name)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished.replace(final)
    return {final.parent, final.parent.parent}


class PackWriter:
    """Encode tensors into new packs below ``root``.

    Args:
        root: Of the store.
        executor: Where chunks are encoded.
        window: The most chunks in flight.
        wanted: Asked for each digest when it was encoded; a pack of which nothing is wanted is not kept.
    """

    def __init__(
        self,
        root: Path,
        executor: ThreadPoolExecutor,
        window: int,
        wanted: Callable[[Digest], bool] = lambda _: True,
    ) -> None:
        self._root = root
        self._executor = executor
        self._window = window
        self._wanted = wanted

    def write(
        self, packs: Sequence[Sequence[NewBlob]], advance: Callable[[int], None]
    ) -> list[tuple[str, tuple[Entry, ...]]]:
        """Write the packs; all are durable on return.

        Args:
            packs: What each of them holds.
            advance: Told the number of tensor bytes that were encoded.

        Returns:
            Name and entries of each pack that is kept.

        Raises:
            ChangedError: What somebody else wrote to meanwhile is not what its digest names; no pack holds it, and no
                temporary file is left.
            StoreError: The file system refused; no temporary file is left.
        """
        jobs = ((blob, number) for pack in packs for blob in pack for number in range(chunk_count(blob.spec)))
        coded = ordered_map(self._executor, _encode, jobs, self._window)
        finishing: list[Future[tuple[str, tuple[Entry, ...], set[Path]]]] = []
        made: list[Path] = []
        # Finished packs wait for the disk in threads of their own, so that encoding goes on meanwhile.
        finisher = ThreadPoolExecutor(_FINISHERS)
        try:
            with reporting_os_errors(self._root):
                clear_stale(self._root)
                for pack in packs:
                    path = temporary(self._root)
                    made.append(path)
                    entries = _stream(path, pack, coded, advance)
                    if not any(self._wanted(entry.digest) for entry in entries):
                        path.unlink()
                        continue
                    finishing.append(finisher.submit(_finish, self._root, path, entries))
                done = [future.result() for future in finishing]
                # All at once: one flush of a journal serves every folder.
                sync_directories({folder for _, _, folders in done for folder in folders})
                return [(name, entries) for name, entries, _ in done]
        finally:
            coded.close()  # type: ignore[attr-defined]  # a generator, to be stopped before the buffers go
            finisher.shutdown()
            for path in made:
                path.unlink(missing_ok=True)


def _encode(job: tuple[NewBlob, int]) -> list[Buffer]:
    blob, number = job
    return blob.encode(number)


def _stream(
    path: Path, pack: Sequence[NewBlob], coded: Iterator[list[Buffer]], advance: Callable[[int], None]
) -> tuple[Entry, ...]:
    entries = [
        Entry(blob.digest, blob.spec, blob.encoding, (0,) * chunk_count(blob.spec), 0, blob.bases, blob.params)
        for blob in pack
    ]
    head = len(write_header(entries))
    with path.open("xb", buffering=0) as file:
        file.seek(head)
        for at, (blob, entry) in enumerate(zip(pack, entries, strict=True)):
            sizes: list[int] = []
            for number in range(len(entry.chunks)):
                sizes.append(_write_all(file.fileno(), next(coded)))
                start, end = chunk_range(entry.spec, number)
                advance(end - start)
            entries[at] = replace(entry, digest=blob.encoded(), chunks=tuple(sizes), offset=head)
            head += sum(sizes)
        file.seek(0)
        _write_all(file.fileno(), [write_header(entries)])
    return tuple(entries)


def _write_all(descriptor: int, pieces: list[Buffer]) -> int:
    total = sum(memoryview(piece).nbytes for piece in pieces)
    written = os.writev(descriptor, pieces)
    while written < total:
        # A disk that fills up, or a signal: what is left goes again, and then says why it cannot.
        rest = b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)[written:]
        written += os.write(descriptor, rest)
    return total


def _finish(root: Path, path: Path, entries: tuple[Entry, ...]) -> tuple[str, tuple[Entry, ...], set[Path]]:
    name = sha256_of(path)
    sync_file(path)
    path.chmod(path.stat().st_mode & 0o444)
    return name, entries, place_pack(root, path, name)
