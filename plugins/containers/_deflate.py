"""Find out how a deflate stream was made, and make it again.

The bytes that zlib makes depend on its level and ``memLevel``. Both are found by trial. A stream counts as understood
only if all of its bytes were made again. Other libraries, such as zlib-ng, make other bytes, and may be the ``zlib`` of
another machine. So the library is tested with a sample, and if it fails, ``_reference_deflate`` takes its place: every
machine makes the same bytes, although some are slow.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from git_theta_ext.errors import FormatError

from ._reference_deflate import ReferenceDeflate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.interfaces import Content

PIECE = 1 << 18
"""Bytes that are compressed at a time. Must never change: it decides when the window slides, and so a few matches."""
_HEAD, _SLOW_HEAD = 1 << 17, 1 << 15
"""Bytes at the beginning with which parameters are tried, by the library and by the slow compressor."""
_MOST_ATTEMPTS = 4
"""How many parameters are tried with the whole of a long stream."""
_SLACK, _RATIO = 1 << 26, 64


class Parameters(NamedTuple):
    """The level (1 to 9) and the ``memLevel`` (8 or 9) of a compressor."""

    level: int
    memory: int


_LEVELS = (6, 9, 1, 3, 4, 5, 2, 7, 8)
FIRST_TRIED = Parameters(6, 8)
"""What most writers use: the default of zlib."""
_CANDIDATES = tuple(Parameters(level, memory) for memory in (8, 9) for level in _LEVELS)

_EXPECTED = {
    Parameters(1, 8): "0a7afcd7747dd887", Parameters(2, 8): "94eeecddb4b45b7f", Parameters(3, 8): "d2912a3b651f6ea0",
    Parameters(4, 8): "de047f4e936c5632", Parameters(5, 8): "b4da0e40423d644b", Parameters(6, 8): "9f48281b898792eb",
    Parameters(7, 8): "c4cffa7747917b1c", Parameters(8, 8): "590878ba8255bd1e", Parameters(9, 8): "590878ba8255bd1e",
    Parameters(1, 9): "5f96aba49005d675", Parameters(2, 9): "ed3b333b65665126", Parameters(3, 9): "fb729c78726ce1bf",
    Parameters(4, 9): "0a0a122f633ac9c1", Parameters(5, 9): "ffa29e2bc571abda", Parameters(6, 9): "9d6b309d8fa24338",
    Parameters(7, 9): "ce0b5297cc3b445b", Parameters(8, 9): "725dbcaf6d4abb35", Parameters(9, 9): "725dbcaf6d4abb35",
}  # fmt: skip
"""The first bytes of the SHA-256 of what ``ReferenceDeflate`` makes of the sample."""


class _Compressor(Protocol):
    def compress(self, data: memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


def most_bytes(nbytes: int) -> int:
    """Return the limit of the content of a compressed file; what exceeds it is not unpacked."""
    return _SLACK + _RATIO * nbytes


def read_parameters(recipe: bytes) -> Parameters:
    """Return the parameters that the first two bytes of a recipe hold.

    Raises:
        FormatError: They are not parameters.
    """
    if len(recipe) < len(Parameters._fields) or (found := Parameters(*recipe[:2])) not in _CANDIDATES:
        raise FormatError("unknown parameters of a compressor")
    return found


def inflate(stream: Content, most: int) -> Iterator[bytes]:
    """Yield the content of a raw deflate stream.

    Raises:
        FormatError: The stream is damaged, ends early or late, or has more content than ``most`` bytes.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    made = 0
    try:
        for start in range(0, stream.nbytes, PIECE):
            rest: bytes | memoryview = stream[start : start + PIECE]
            while not inflater.eof:
                piece = inflater.decompress(rest, PIECE)
                made += len(piece)
                if made > most:
                    raise FormatError(f"the content exceeds {most} bytes")
                if piece:
                    yield piece
                rest = inflater.unconsumed_tail
                if not rest and len(piece) < PIECE:
                    break
            if inflater.eof and (inflater.unused_data or start + PIECE < stream.nbytes):
                raise FormatError("a compressed stream ends early")
    except zlib.error as error:
        raise FormatError(f"a damaged compressed stream: {error}") from error
    if not inflater.eof:
        raise FormatError("a compressed stream does not end")


def deflate(content: Content, parameters: Parameters, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a raw deflate stream, which is the same on every machine.

    Args:
        content: What to compress.
        parameters: How.
        advance: Called with the number of bytes of the content that were compressed since the last call.
    """
    compressor = _compressor(parameters)
    for start in range(0, content.nbytes, PIECE):
        piece = content[start : start + PIECE]
        if made := compressor.compress(piece):
            yield made
        advance(piece.nbytes)
    yield compressor.flush()


def find_parameters(
    stream: Content, content: Content, advance: Callable[[int], None], hint: Parameters = FIRST_TRIED
) -> Parameters | None:
    """Return the parameters that make a raw deflate stream of its content; None if none do.

    Args:
        stream: The stream.
        content: Its content.
        advance: Called with the number of bytes of the content that were compressed since the last call.
        hint: Parameters to try first.
    """
    attempts = 0
    for parameters in dict.fromkeys((hint, *_CANDIDATES)):
        if not _fits_head(stream, content, parameters):
            continue
        if _is_made(stream, deflate(content, parameters, advance)):
            return parameters
        attempts += content.nbytes > _HEAD
        if attempts == _MOST_ATTEMPTS:
            break
    return None


def _fits_head(stream: Content, content: Content, parameters: Parameters) -> bool:
    size = _HEAD if _is_zlib(parameters) else _SLOW_HEAD
    if content.nbytes <= size:
        return True
    made = _compressor(parameters).compress(content[:size])
    return bytes(stream[: len(made)]) == made


def _is_made(stream: Content, pieces: Iterator[bytes]) -> bool:
    at = 0
    for made in pieces:
        if bytes(stream[at : at + len(made)]) != made:
            return False
        at += len(made)
    return at == stream.nbytes


def _compressor(parameters: Parameters) -> _Compressor:
    return (_library if _is_zlib(parameters) else ReferenceDeflate)(*parameters)


def _library(level: int, memory: int) -> _Compressor:
    return zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, memory)


@cache
def _is_zlib(parameters: Parameters) -> bool:
    """Return whether the library of this machine makes what zlib makes of a sample."""
    compressor = _library(*parameters)
    made = compressor.compress(_sample()) + compressor.flush()
    return hashlib.sha256(made).hexdigest()[:16] == _EXPECTED[parameters]


@cache
def _sample() -> memoryview:
    """Return bytes of several kinds: noise, repetitions near and far, few values, long runs, and floats."""
    noise = hashlib.shake_128(b"git-theta deflate sample").digest(1 << 16)
    words = b" ".join(noise[at : at + 2 + noise[at] % 9].hex().encode() for at in range(0, 24000, 12))
    floats = b"".join(noise[at : at + 3] + bytes([0x3C + noise[at + 3] % 5]) for at in range(0, 40000, 4))
    few = bytes(byte & 3 for byte in noise[:16000])
    return memoryview(b"".join((words, noise[:30000], floats, bytes(70000), few, noise[:30000], words, few, floats)))
