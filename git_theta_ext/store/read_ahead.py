"""Decode tensors in threads, several of them in step, and verify them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.util.threads import ordered_map, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Decoder, Places

    Groups = Sequence[Sequence[tuple[Digest, TensorSpec]]]
    Work = Callable[[int, int, tuple[memoryview, ...]], Any]


def piece_range(spec: TensorSpec, number: int, span: int) -> tuple[int, int]:
    """Return the byte range of some chunks of a tensor, as far as it has them, from the one of that number on."""
    last = min(number + span, chunk_count(spec)) - 1
    return chunk_range(spec, number)[0], chunk_range(spec, last)[1]


def in_step(  # noqa: PLR0913 - named
    decoder: Decoder,
    groups: Groups,
    places: Places,
    work: Work | None = None,
    *,
    threads: int,
    span: int = 1,
    verify: bool = True,
    again: Callable[[Digest], Places] | None = None,
) -> Iterator[tuple[int, int, tuple[memoryview, ...], Any]]:
    """Decode the tensors of each group in step, piece by piece.

    Args:
        decoder: Of chunks.
        groups: Digest and spec of each tensor; those of a group have as many chunks of as many elements.
        places: Where they are, and all that they lean on.
        work: Called in the threads with number in ``groups``, offset in bytes in the first tensor, and the bytes of
            that piece of each tensor.
        threads: So many.
        span: Chunks that make a piece.
        verify: Whether to compare the tensors with their digests.
        again: Finds a tensor of which the pack is gone.

    Yields:
        The same, and what ``work`` returned; in order, with bytes that are valid until the next are asked for. Without
        bytes, and with the whole size as the offset, when all tensors of a group were verified.

    Raises:
        MissingError: A pack is gone.
        CorruptError: What is stored is not what a digest names.
    """
    largest = max((min(span * spec.chunk_bytes, spec.nbytes) for group in groups for _, spec in group), default=0)
    buffers: list[memoryview] = []  # used over and over: fresh memory costs more than decoding

    def decode(job: tuple[int, int]) -> tuple[list[memoryview], tuple[memoryview, ...], Any]:
        item, number = job
        rooms, pieces = [], []
        for digest, spec in groups[item]:
            rooms.append(buffers.pop() if buffers else memoryview(bytearray(largest)))
            first, last = piece_range(spec, number, span)
            pieces.append(rooms[-1][: last - first])
            for each in range(number, min(number + span, chunk_count(spec))):
                start, end = chunk_range(spec, each)
                _decode(decoder, places, digest, each, pieces[-1][start - first : end - first], again)
        first, _ = piece_range(groups[item][0][1], number, span)
        return rooms, tuple(pieces), None if work is None else work(item, first, tuple(pieces))

    jobs = ((item, number) for item, group in enumerate(groups) for number in range(0, chunk_count(group[0][1]), span))
    with ThreadPoolExecutor(threads) as executor:
        decoded = ordered_map(executor, decode, jobs, window(threads))
        for item, group in enumerate(groups):
            hashers = [TensorHasher(spec) for _, spec in group]
            for number in range(0, chunk_count(group[0][1]), span):
                rooms, pieces, result = next(decoded)
                for hasher, piece in zip(hashers, pieces, strict=True) if verify else ():
                    hasher.update(piece)
                yield item, piece_range(group[0][1], number, span)[0], pieces, result
                buffers += rooms
            for hasher, (digest, _) in zip(hashers, group, strict=True) if verify else ():
                if hasher.digest() != digest:
                    raise CorruptError(
                        f"pack {places[digest][0].name}: the tensor stored as {digest} is another",
                        hint="git theta fsck",
                    )
            yield item, group[0][1].nbytes, (), None


def _decode(  # noqa: PLR0913, PLR0917 - as Decoder.decode, and what to do where that does not find it
    decoder: Decoder,
    places: Places,
    digest: Digest,
    number: int,
    out: memoryview,
    again: Callable[[Digest], Places] | None,
) -> None:
    try:
        decoder.decode(places, digest, number, out)
    except MissingError:  # recoded by another process, and the pack that we knew is gone
        if again is None:
            raise
        decoder.decode(again(digest), digest, number, out)
