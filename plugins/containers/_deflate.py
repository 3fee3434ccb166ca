"""Find out how a deflate stream was made, and make it again.

The parameters of the compressor are found by trial. A stream counts as understood only if all of its bytes were made
again.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Part

from ._compressors import CANDIDATES, FIRST_TRIED, PIECES, Parameters, compressor, is_library_trusted
from ._pieces import SIZE, deflate_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.interfaces import Content

PIECE = 1 << 18
"""Bytes that are compressed at a time. Must never change: it decides when the window slides, and so a few matches."""
_HEAD, _SLOW_HEAD = 1 << 17, 1 << 15
"""Bytes at the beginning with which parameters are tried, by the library and by the slow compressor."""
_MOST_TRIED = 3
"""Trials end when they have made again so many times the bytes of the stream, as they share its beginning."""
_SLACK, _RATIO = 1 << 26, 64


def most_bytes(nbytes: int) -> int:
    """Return the limit of the content of a compressed file; what exceeds it is not unpacked."""
    return _SLACK + _RATIO * nbytes


def read_parameters(recipe: bytes) -> Parameters:
    """Return the parameters that the first two bytes of a recipe hold.

    Raises:
        FormatError: They are not parameters.
    """
    if len(recipe) < len(Parameters._fields) or (found := Parameters(*recipe[:2])) not in CANDIDATES:
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


def deflate(
    content: Content, parameters: Parameters, advance: Callable[[int], None], threads: int = 1
) -> Iterator[bytes]:
    """Yield a raw deflate stream, which is the same on every machine.

    Args:
        content: What to compress.
        parameters: How.
        advance: Called with the number of bytes of the content that were compressed since the last call.
        threads: How many threads may compress; only a stream in pieces takes more than one.
    """
    if parameters.kind == PIECES:
        yield from deflate_pieces(content, parameters, advance, threads)
        return
    whole = compressor(parameters)
    for start in range(0, content.nbytes, PIECE):
        piece = content[start : start + PIECE]
        if made := whole.compress(piece):
            yield made
        advance(piece.nbytes)
    yield whole.flush()


def find_parameters(
    stream: Content,
    content: Content,
    advance: Callable[[int], None],
    hint: Parameters = FIRST_TRIED,
    threads: int = 1,
) -> Parameters | None:
    """Return the parameters that make a raw deflate stream of its content; None if none do.

    Args:
        stream: The stream.
        content: Its content.
        advance: Called with the number of bytes of the content that were compressed since the last call.
        hint: Parameters to try first.
        threads: As for ``deflate``.
    """
    failed: list[_Failure] = []
    for parameters in dict.fromkeys((hint, *CANDIDATES)):
        if not _may_fit(stream, content, parameters) or any(one.is_repeated(content, parameters) for one in failed):
            continue
        failure = _try(stream, content, parameters, advance, threads)
        if failure is None:
            return parameters
        failed.append(failure)
        if sum(one.nbytes for one in failed) > _MOST_TRIED * stream.nbytes:
            break
    return None


class _Failure(NamedTuple):
    """What some parameters make differs from a stream.

    Attributes:
        parameters: The parameters.
        nbytes: How many bytes are equal, about.
        start: Offset in the content before what makes the difference.
        stop: Offset in the content behind it.
    """

    parameters: Parameters
    nbytes: int
    start: int
    stop: int

    def is_repeated(self, content: Content, parameters: Parameters) -> bool:
        """Return whether other parameters make the same of this part, and so fail in the same place."""
        if parameters.kind != self.parameters.kind or self.stop - self.start > self.nbytes:
            return False
        return _compressed(content, parameters, self) == _compressed(content, self.parameters, self)


def _compressed(content: Content, parameters: Parameters, part: _Failure) -> bytes:
    return b"".join(deflate(Part(content, part.start, part.stop), parameters, lambda _: None))


def _try(
    stream: Content, content: Content, parameters: Parameters, advance: Callable[[int], None], threads: int
) -> _Failure | None:
    """Return where the stream differs from what the parameters make; None if it does not."""
    at = done = 0
    starts = 0, 0  # where in the content the last outputs began: a block that differs may begin before the last one

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        advance(nbytes)

    for made in deflate(content, parameters, count, threads):
        if bytes(stream[at : at + len(made)]) != made:
            break
        at, starts = at + len(made), (starts[1], done)
    else:
        if at == stream.nbytes:
            return None
    return _Failure(parameters, at, starts[0], min(done + PIECE, content.nbytes))


def _may_fit(stream: Content, content: Content, parameters: Parameters) -> bool:
    """Return whether the parameters make the beginning of a long stream."""
    if parameters.kind == PIECES:
        return content.nbytes > SIZE
    size = _HEAD if is_library_trusted(parameters) else _SLOW_HEAD
    if content.nbytes <= size:
        return True
    made = compressor(parameters).compress(content[:size])
    return bytes(stream[: len(made)]) == made
