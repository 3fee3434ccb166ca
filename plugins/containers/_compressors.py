"""Compressors that write the same bytes on every machine.

The bytes that zlib makes depend on its level and ``memLevel``. Other libraries, such as zlib-ng, make other bytes, and
may be the ``zlib`` of another machine. So the library is tested with a sample, and if it fails, ``_reference_deflate``
takes its place: every machine makes the same bytes, although some are slow.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ._reference_deflate import ReferenceDeflate
from ._reference_trees import Bits

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer


class Parameters(NamedTuple):
    """How a stream is compressed.

    Attributes:
        level: From 1 to 9.
        kind: zlib's ``memLevel``, 8 or 9; or ``PIECES``, for a stream in pieces as pigz writes it.
    """

    level: int
    kind: int

    @property
    def memory(self) -> int:
        """The ``memLevel`` of zlib."""
        return self.kind & 15


PIECES = 16 + 8
FIRST_TRIED = Parameters(6, 8)
"""What most writers use: the default of zlib."""
CANDIDATES = tuple(Parameters(level, kind) for kind in (8, 9, PIECES) for level in (6, 9, 1, 3, 4, 5, 2, 7, 8))
"""In the order in which they are tried."""

_EXPECTED = {
    8: (
        "0a7afcd7747dd887", "94eeecddb4b45b7f", "d2912a3b651f6ea0", "de047f4e936c5632", "b4da0e40423d644b",
        "9f48281b898792eb", "c4cffa7747917b1c", "590878ba8255bd1e", "590878ba8255bd1e",
    ),
    9: (
        "5f96aba49005d675", "ed3b333b65665126", "fb729c78726ce1bf", "0a0a122f633ac9c1", "ffa29e2bc571abda",
        "9d6b309d8fa24338", "ce0b5297cc3b445b", "725dbcaf6d4abb35", "725dbcaf6d4abb35",
    ),
    PIECES: (
        "7833801f29c334b6", "2b42886eb29d259a", "c13aa1d7d6814a37", "9058478a7ccecc6f", "ce5bb51e27f5262d",
        "6a4c99f044f1ddf0", "c8c7c82830a93e1b", "0dc349ff6cc34cf8", "0dc349ff6cc34cf8",
    ),
}  # fmt: skip
"""The first bytes of the SHA-256 of what ``ReferenceDeflate`` makes of the sample, by kind and level.

A stream in pieces is tested with its second half, and the 32 KiB before it.
"""
_DICTIONARY = 1 << 15


class Compressor(Protocol):
    """Compresses to a raw deflate stream."""

    def compress(self, data: Buffer, /) -> bytes:
        """Add bytes, and return compressed ones."""
        ...

    def flush(self) -> bytes:
        """End the stream, and return the rest of it."""
        ...

    def end_block(self) -> tuple[bytes, Bits]:
        """End a block, after which nothing more is compressed; return whole bytes, and the bits behind them."""
        ...


class _Library:
    """The library of this machine."""

    def __init__(self, level: int, memory: int, dictionary: Buffer = b"") -> None:
        options = level, zlib.DEFLATED, -zlib.MAX_WBITS, memory, zlib.Z_DEFAULT_STRATEGY
        self._inner = (
            zlib.compressobj(*options, dictionary) if memoryview(dictionary).nbytes else zlib.compressobj(*options)
        )
        self.compress, self.flush = self._inner.compress, self._inner.flush

    def end_block(self) -> tuple[bytes, Bits]:
        made = self._inner.flush(zlib.Z_BLOCK)
        # The library does not say which bits it still has. Two kinds of flush write them with an empty block behind
        # them, which begins with 010 or with 000: so the first bit that differs is the second one behind them.
        fixed, stored = (
            int.from_bytes(self._inner.copy().flush(mode), "little")
            for mode in (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH)
        )
        differ = fixed ^ stored
        count = max(0, (differ & -differ).bit_length() - 2)
        return made, Bits(stored & ((1 << count) - 1), count)


def compressor(parameters: Parameters, dictionary: Buffer = b"") -> Compressor:
    """Return a compressor.

    Args:
        parameters: How it compresses.
        dictionary: Bytes before the first ones, in which matches are found; at most 32 KiB.
    """
    kind = _Library if is_library_trusted(parameters) else ReferenceDeflate
    return kind(parameters.level, parameters.memory, dictionary)


@cache
def is_library_trusted(parameters: Parameters) -> bool:
    """Return whether the library of this machine makes what zlib makes of a sample."""
    return sample_digest(_Library, parameters) == _EXPECTED[parameters.kind][parameters.level - 1]


def sample_digest(kind: Callable[[int, int, Buffer], Compressor], parameters: Parameters) -> str:
    """Return the first bytes of the SHA-256 of what a compressor makes of a sample, in hexadecimal digits."""
    sample = _sample()
    half = sample.nbytes // 2
    if parameters.kind == PIECES:
        piece = kind(parameters.level, parameters.memory, sample[half - _DICTIONARY : half])
        made = piece.compress(sample[half:])
        rest, bits = piece.end_block()
        made += rest + bytes(bits)
    else:
        whole = kind(parameters.level, parameters.memory, b"")
        made = whole.compress(sample) + whole.flush()
    return hashlib.sha256(made).hexdigest()[:16]


@cache
def _sample() -> memoryview:
    """Return bytes of several kinds: noise, repetitions near and far, few values, long runs, and floats."""
    noise = hashlib.shake_128(b"git-theta deflate sample").digest(1 << 16)
    words = b" ".join(noise[at : at + 2 + noise[at] % 9].hex().encode() for at in range(0, 24000, 12))
    floats = b"".join(noise[at : at + 3] + bytes([0x3C + noise[at + 3] % 5]) for at in range(0, 40000, 4))
    few = bytes(byte & 3 for byte in noise[:16000])
    return memoryview(b"".join((words, noise[:30000], floats, bytes(70000), few, noise[:30000], words, few, floats)))
