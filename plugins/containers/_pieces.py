"""Deflate streams in pieces, as pigz writes them, so that several threads can compress.

Each piece is 128 KiB, and matches are found in the 32 KiB before it. So that it ends with a whole byte, empty blocks
follow it: one that is stored, or up to three with fixed codes, whichever pigz takes (its ``compress_thread``).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ._compressors import compressor
from ._threads import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.interfaces import Content

    from ._compressors import Parameters
    from ._reference_trees import Bits

SIZE = 1 << 17
_DICTIONARY = 1 << 15
_STORED_BITS, _STORED_SIZE = 3, b"\0\0\xff\xff"
_FIXED_BLOCK, _FIXED_BITS = 2, 10
"""An empty block with fixed codes."""


def deflate_pieces(
    content: Content, parameters: Parameters, advance: Callable[[int], None], threads: int
) -> Iterator[bytes]:
    """Yield a raw deflate stream in pieces; for the arguments see ``deflate``."""

    def piece(start: int) -> bytes:
        end = min(start + SIZE, content.nbytes)
        one = compressor(parameters, content[max(0, start - _DICTIONARY) : start])
        made = one.compress(content[start:end])
        if end == content.nbytes:
            return made + one.flush()
        rest, bits = one.end_block()
        return made + rest + _aligned(bits)

    starts = range(0, max(1, content.nbytes), SIZE)
    with closing(in_order(piece, starts, threads)) as pieces:
        for start, made in zip(starts, pieces, strict=True):
            yield made
            advance(min(SIZE, content.nbytes - start))


def _aligned(bits: Bits) -> bytes:
    value, count = bits
    if count % 2:
        return value.to_bytes((count + _STORED_BITS + 7) // 8, "little") + _STORED_SIZE
    while count % 8:
        value, count = value | _FIXED_BLOCK << count, count + _FIXED_BITS
    return value.to_bytes(count // 8, "little")
