"""Decode tensors in threads ahead of the caller, and verify them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MissingError
from git_theta_ext.records import NamedTuple, dataclass, field
from git_theta_ext.store.ordered_hashing import GroupHasher
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.store.packs.reader import blob_digest, wrong_tensor
from git_theta_ext.util.threads import ALONE, TOGETHER, largest_sum, ordered_map, pool, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs, Decoder

    Group = Sequence[tuple[Digest, TensorSpec]]
    Groups = Sequence[Group]
    Work = Callable[["DecodedPiece"], Any]
    Job = tuple[int, int]
    """The index of a group, and the number of the first chunk of a piece."""

_DECODED_ALONE = 1 << 24
"""Bytes that one thread decodes and verifies in the time that others take to start, with the import of
``concurrent.futures``, if nothing else is done with them."""

_ALIGNED = 64
"""Bytes; numpy is slower on arrays that begin elsewhere."""


class DecodedPiece(NamedTuple):
    """The same part of every tensor of a group; a single tensor is a group of one.

    It is a tuple, because there are two for each tensor of a model.

    Attributes:
        group: Index of the group.
        offset: Position of the part's first byte in the first tensor.
        element: Index of the part's first element.
        chunks: Bytes of the part in each tensor, valid until the next piece is requested. The last piece of a group has
            none: it follows when all tensors of the group are verified.
        result: What ``work`` returned for this piece.
    """

    group: int
    offset: int
    element: int
    chunks: tuple[memoryview, ...] = ()
    result: Any = None

    @property
    def data(self) -> memoryview:
        """Bytes of the part in the first tensor."""
        return self.chunks[0]


def piece_range(spec: TensorSpec, number: int, span: int) -> tuple[int, int]:
    """Return the byte range of up to ``span`` chunks of a tensor that begin with a chunk."""
    if spec.nbytes <= spec.chunk_bytes:  # as most tensors have a single chunk
        return number * spec.chunk_bytes, spec.nbytes
    last = min(number + span, chunk_count(spec)) - 1
    return chunk_range(spec, number)[0], chunk_range(spec, last)[1]


def piece_at(group: int, spec: TensorSpec, offset: int, chunks: tuple[memoryview, ...] = ()) -> DecodedPiece:
    """Return the piece that begins at a byte of the first tensor of a group."""
    return DecodedPiece(group, offset, offset * 8 // spec.dtype.bits, chunks)


def worked(piece: DecodedPiece, work: Work | None) -> DecodedPiece:
    """Return a piece with the result of ``work``."""
    result = None if work is None else work(piece)
    return piece if result is None else piece._replace(result=result)


def largest_piece(spec: TensorSpec, span: int) -> tuple[int, int]:
    """Return the number of elements in the largest piece of a tensor, and the number of its pieces.

    Args:
        spec: The tensor.
        span: Number of chunks in a piece.
    """
    elements = min(spec.elements, span * spec.chunk_bytes * 8 // spec.dtype.bits)
    return elements, -(-spec.elements // max(elements, 1))


def reading_bytes(groups: Iterable[tuple[Sequence[TensorSpec], int]], *, span: int, threads: int) -> int:
    """Return the most bytes that are in memory because they were read ahead.

    Args:
        groups: The tensors of each group, and the size of what ``work`` returns for a piece.
        span: Number of chunks in a piece.
        threads: Number of threads.
    """

    def size(specs: Sequence[TensorSpec], result: int) -> tuple[int, int]:
        elements, count = largest_piece(specs[0], span)
        return sum(elements * spec.dtype.bits // 8 for spec in specs) + result, count

    every = list(groups)
    # The results of small tensors, which wait with them, are hardly ever larger than what they are computed from.
    small = sum(spec.nbytes for specs, _ in every for spec in specs)
    together = min(small, 2 * window(threads) * TOGETHER)
    return largest_sum(window(threads), (size(*group) for group in every)) + together


def read_ahead(  # noqa: PLR0913 - named
    decoder: Decoder,
    groups: Groups,
    blobs: Blobs,
    work: Work | None = None,
    *,
    threads: int,
    span: int = 1,
    verify: bool = True,
    relocate: Callable[[Digest], Blobs] | None = None,
    numbers: Sequence[int] | None = None,
) -> Iterator[DecodedPiece]:
    """Decode the tensors of each group in step, piece by piece.

    Args:
        decoder: Decodes chunks.
        groups: Digest and spec of each tensor. The tensors of a group have the same number of chunks and elements.
        blobs: The blobs of all these tensors and of their bases.
        work: Called with each piece, in the thread that decoded it.
        threads: Number of threads.
        span: Number of chunks in a piece.
        verify: Whether to compare the tensors with their digests.
        relocate: Returns the blobs of a tensor whose pack is gone.
        numbers: First chunks of the pieces of each group; None for all. Parts of a tensor have no digest to compare.

    Yields:
        Pieces in order, and after each group one without bytes.

    Raises:
        MissingError: A pack is gone.
        CorruptError: The stored bytes do not match a digest.
    """
    verified = verify and numbers is None
    tasks = _Tasks(decoder, groups, blobs, work, span, relocate, verified)
    nbytes = sum(spec.nbytes for group in groups for _, spec in group)
    with pool(threads, nbytes, _DECODED_ALONE if work is None else ALONE) as executor:
        pieces = tasks.run(executor, window(threads), numbers)
        for item, group in enumerate(groups):
            count = len(_numbers(group, span) if numbers is None else numbers)
            compared = group if verified else []
            actual: list[Digest | None] = []
            for at in range(count):
                piece = next(pieces)
                if verified and count > 1:
                    tasks.hasher(item).hash_up_to(at)
                if count == 1:
                    whole = zip(compared, piece.chunks, strict=False)
                    actual = [blob_digest(blobs[digest].entry, chunk) for (digest, _), chunk in whole]
                yield piece
            if verified and count != 1:
                actual += tasks.hasher(item).digests()
                del tasks.hashers[item]
            for (digest, _), found in zip(compared, actual, strict=True):
                if found != digest:
                    raise wrong_tensor(blobs[digest].path.name, digest)
            yield piece_at(item, group[0][1], group[0][1].nbytes)


@dataclass
class _Tasks:
    """Tasks that decode pieces; see ``read_ahead`` for the attributes. A task decodes several small tensors."""

    decoder: Decoder
    groups: Groups
    blobs: Blobs
    work: Work | None
    span: int
    relocate: Callable[[Digest], Blobs] | None
    verified: bool
    hashers: dict[int, GroupHasher] = field(default_factory=dict)
    buffers: list[memoryview] = field(default_factory=list)
    """They are used over and over: fresh memory costs more than decoding."""

    def run(
        self, executor: ThreadPoolExecutor | None, ahead: int, numbers: Sequence[int] | None = None
    ) -> Iterator[DecodedPiece]:
        """Yield all pieces, or some, in order. An error is raised after the pieces before it."""
        batches = list(_batches(self.groups, self.span, numbers))
        room = max((nbytes for _, nbytes in batches), default=0)

        def decode(batch: tuple[list[Job], int]) -> tuple[memoryview, list[DecodedPiece], BaseException | None]:
            used = self._memory(room)
            pieces: list[DecodedPiece] = []
            free = used
            try:
                for job in batch[0]:
                    piece, free = self._piece(job, free)
                    pieces.append(piece)
            except BaseException as error:  # noqa: BLE001 - raised below
                return used, pieces, error
            return used, pieces, None

        for used, pieces, error in ordered_map(executor, decode, batches, ahead):
            yield from pieces
            self.buffers.append(used)
            if error is not None:
                raise error

    def _memory(self, room: int) -> memoryview:
        """Return memory for a task; other threads may take what is free at the same time."""
        with suppress(IndexError):
            return self.buffers.pop()
        return memoryview(bytearray(room))

    def _piece(self, job: Job, free: memoryview) -> tuple[DecodedPiece, memoryview]:
        """Return a piece, which takes the beginning of free memory, and the memory after it."""
        item, number = job
        chunks = []
        for digest, spec in self.groups[item]:
            first, last = piece_range(spec, number, self.span)
            room = free[: last - first]
            chunks.append(room)
            free = free[_padded(last - first) :]
            if last - first <= spec.chunk_bytes:
                self._decode(digest, number, room)
                continue
            for at in range(number, min(number + self.span, chunk_count(spec))):
                start, end = chunk_range(spec, at)
                self._decode(digest, at, room[start - first : end - first])
        spec = self.groups[item][0][1]
        piece = worked(piece_at(item, spec, number * spec.chunk_bytes, tuple(chunks)), self.work)
        if self.verified and chunk_count(spec) > self.span:
            self.hasher(item).add(number // self.span, piece.chunks)
        return piece, free

    def hasher(self, item: int) -> GroupHasher:
        """Return what computes the digests of a group of several pieces, or of none."""
        hasher = self.hashers.get(item)
        return hasher or self.hashers.setdefault(item, GroupHasher([spec for _, spec in self.groups[item]]))

    def _decode(self, digest: Digest, number: int, out: memoryview) -> None:
        try:
            self.decoder.decode(self.blobs, digest, number, out)
        except MissingError:  # another process recoded the tensor and removed the pack
            if self.relocate is None:
                raise
            self.decoder.decode(self.relocate(digest), digest, number, out)


def _numbers(group: Group, span: int) -> range:
    return range(0, chunk_count(group[0][1]), span)


def _batches(groups: Groups, span: int, numbers: Sequence[int] | None) -> Iterator[tuple[list[Job], int]]:
    """Yield the pieces that are decoded together, in order, and the bytes that they take."""
    batch: list[Job] = []
    filled = 0
    for item, group in enumerate(groups):
        for number in _numbers(group, span) if numbers is None else numbers:
            ranges = [piece_range(spec, number, span) for _, spec in group]
            nbytes = sum(_padded(last - first) for first, last in ranges)
            if batch and filled + nbytes > TOGETHER:
                yield batch, filled
                batch, filled = [], 0
            batch.append((item, number))
            filled += nbytes
    if batch:
        yield batch, filled


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGNED) * _ALIGNED
