"""Write packs: encode in threads, write to temporary files, make them durable, and rename them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.model.dtypes import SKELETON
from git_theta_ext.store.packs.copied import copy_entries
from git_theta_ext.store.packs.finishing import WrittenPacks
from git_theta_ext.store.packs.format import Entry, write_header
from git_theta_ext.store.packs.hashed_writes import HashedWrites
from git_theta_ext.store.temporary import clear_stale
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.threads import batched_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.blobs import NewBlob

SMALLEST_LIMIT, LARGEST_LIMIT = 1 << 25, 1 << 28
"""Limits in bytes for tensors that share a pack. Interrupted uploads cost more for larger packs, and requests for more
packs: larger packs are for larger models."""

MANY_PACKS = 64
"""Number of packs that are made before they become larger."""

ENTRY_BYTES = 1 << 10
"""What an entry counts besides its tensor, so that the header of a pack of tiny tensors stays small."""

_HALVINGS = 4
"""Number of steps that look for a lower limit which takes no more packs."""

_BUFFER = 1 << 18
"""Bytes of small chunks that are written to a pack at once; larger pieces are written without copying them."""

Item = TypeVar("Item")


def grouped(blobs: Iterable[NewBlob]) -> list[list[NewBlob]]:
    """Distribute blobs over packs in the given order; see ``divided``.

    A skeleton has its own pack, since it outlives the tensors that it was first stored with.
    """
    every = list(blobs)
    skeletons = [[blob] for blob in every if blob.spec.dtype is SKELETON]
    return [*divided([(blob, blob.spec.nbytes) for blob in every if blob.spec.dtype is not SKELETON]), *skeletons]


def divided(items: Sequence[tuple[Item, int]]) -> list[list[Item]]:
    """Distribute items over packs in the given order, so that a model is few packs, and none of them is too large.

    Packs have about the same size: two of them are finished at a time, which takes as long as the larger one does.

    Args:
        items: Each with its size in bytes. Items that together exceed the limit do not share a pack.
    """
    total = sum(nbytes for _, nbytes in items)
    limit = min(max(SMALLEST_LIMIT, total // MANY_PACKS), LARGEST_LIMIT)
    packs = _filled(items, limit)
    least = total // max(len(packs), 1)
    for _ in range(_HALVINGS if len(packs) > 1 else 0):
        lower = (least + limit) // 2
        others = _filled(items, lower)
        if len(others) > len(packs):
            least = lower
        else:
            packs, limit = others, lower
    return packs


def _filled(items: Sequence[tuple[Item, int]], limit: int) -> list[list[Item]]:
    """Fill packs one after the other up to a limit in bytes."""
    packs: list[list[Item]] = []
    filled = 0
    for item, nbytes in items:
        if not packs or filled + nbytes > limit:
            packs.append([])
            filled = 0
        packs[-1].append(item)
        filled += nbytes + ENTRY_BYTES
    return packs


class PackWriter:
    """Encodes tensors into new packs of a store.

    Args:
        root: Root of the store.
        executor: Runs the encoding of chunks; None for the thread of the caller.
        window: Maximum number of chunks in progress.
        wanted: Returns those of some digests that are wanted, after they were encoded. Others are not kept.
    """

    def __init__(
        self,
        root: Path,
        executor: ThreadPoolExecutor | None,
        window: int,
        wanted: Callable[[AbstractSet[Digest]], AbstractSet[Digest]] = lambda digests: digests,
    ) -> None:
        self._root = root
        self._executor = executor
        self._window = window
        self._wanted = wanted

    def write(
        self, packs: Sequence[Sequence[NewBlob]], advance: Callable[[int], None]
    ) -> list[tuple[str, tuple[Entry, ...]]]:
        """Write packs, which are durable on return; see ``begin``."""
        return self.begin(packs, advance)()

    def begin(
        self, packs: Sequence[Sequence[NewBlob]], advance: Callable[[int], None]
    ) -> Callable[[], list[tuple[str, tuple[Entry, ...]]]]:
        """Encode the tensors of packs, which are not needed any more when this returns.

        Args:
            packs: The blobs of each pack.
            advance: Called with the number of tensor bytes encoded since the last call.

        Returns:
            A function that waits until the packs are durable, and returns name and entries of each that is kept. It
            raises a ``StoreError`` as this does.

        Raises:
            ChangedError: Another program changed a tensor, so that it does not match its digest. No temporary file is
                left.
            StoreError: A file cannot be written. No temporary file is left.
        """
        jobs = ((blob, number) for pack in packs for blob in pack for number in range(blob.chunks))
        coded = batched_map(self._executor, _encode, jobs, self._window, _job_bytes)
        written = WrittenPacks(self._root, sum(blob.spec.nbytes for pack in packs for blob in pack))
        seen: set[Digest] = set()
        try:
            with reporting_os_errors(self._root):
                clear_stale(self._root)
                for pack in packs:
                    path = written.new_path()
                    entries, name = _stream(path, pack, coded, advance)
                    kept = self._kept(entries, seen)
                    seen.update(entry.digest for entry in kept)
                    if len(kept) < len(entries):
                        whole, path = path, written.new_path()
                        entries, name = copy_entries(whole, kept, path), None
                        whole.unlink()
                    if entries:
                        written.add(path, entries, name)
                written.finish_rest()
        except BaseException:
            written.close()
            raise
        finally:
            coded.close()  # before its buffers are freed
        return written.finished

    def _kept(self, entries: Sequence[Entry], seen: AbstractSet[Digest]) -> list[Entry]:
        """Return the entries that are wanted and not in an earlier pack, each once."""
        once = {entry.digest: entry for entry in entries if entry.digest not in seen}
        wanted = self._wanted(once.keys())
        return [entry for digest, entry in once.items() if digest in wanted]


def _encode(job: tuple[NewBlob, int]) -> list[Buffer]:
    blob, number = job
    return blob.encode(number)


def _job_bytes(job: tuple[NewBlob, int]) -> int:
    blob, number = job
    return min(blob.spec.chunk_bytes, blob.spec.nbytes - number * blob.spec.chunk_bytes)


def _stream(
    path: Path, pack: Sequence[NewBlob], coded: Iterator[list[Buffer]], advance: Callable[[int], None]
) -> tuple[tuple[Entry, ...], str | None]:
    """Write a pack, and compare the file with what was written if some of it is not read back later.

    Returns:
        The entries, and the name of the pack if it was compared.
    """
    entries = [
        Entry(blob.digest, blob.spec, blob.encoding, (0,) * blob.chunks, 0, blob.bases, blob.params, blob.bundle)
        for blob in pack
    ]
    head = len(write_header(entries))
    with path.open("xb", buffering=_BUFFER) as file:
        hashed = HashedWrites(file) if any(blob.proves for blob in pack) else None
        write = file.write if hashed is None else hashed.write
        file.seek(head)
        done = 0
        for at, (blob, entry) in enumerate(zip(pack, entries, strict=True)):
            spec, sizes = entry.spec, []
            for number in range(len(entry.chunks)):
                sizes.append(sum(map(write, next(coded))))
                done += min(spec.chunk_bytes, spec.nbytes - number * spec.chunk_bytes)
                if done >= _BUFFER:  # a model may have very many small tensors
                    advance(done)
                    done = 0
            entries[at] = entry._replace(digest=blob.encoded(), chunks=tuple(sizes), offset=head)
            head += sum(sizes)
        advance(done)
        file.seek(0)
        write(write_header(entries))
    return tuple(entries), None if hashed is None else hashed.compare(path, head=entries[0].offset)
