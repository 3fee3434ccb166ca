"""Planes of bytes: split integers into planes, entropy-code them if that pays, and write them one after another.

A plane that looks random is stored raw. Others are coded by zstd with parameters that find almost no matches and leave
the work to its Huffman stage. On exponents this is smaller and faster than any of zstd's levels.

The output has a byte for the codec and four bytes for the size of each plane, followed by the planes.
"""

from __future__ import annotations

import math
import struct
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding import kernels
from git_theta_ext.coding.kernels import repeated_words, weigh_bytes
from git_theta_ext.util.zstd import zstd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

    Coded = tuple[int, Buffer]
    """Codec and bytes of a plane."""

RAW, ZSTD = range(2)

_PLANE = "BI"
"""Codec and size of a plane."""
_SAMPLE = 1 << 12
_SAMPLED_RUNS = 16
_RUN = 1 << 14
_RANDOM_BITS = 7.88  # a sample of random bytes of that size has an entropy of at least 7.95 bits
_FIXED = 1 << 24  # integers have the same sum in any order
_RANDOM_INFORMATION = round((math.log2(_SAMPLE) - _RANDOM_BITS) * _SAMPLE * _FIXED)
_WORTH = 0.98
_MATCHES_WORTH = 0.95
_SYMBOLS, _ELEMENTS = 8, 4
"""Bytes of the words that repeat in planes and in elements: repetitions of fewer cost more than they save."""
_RARELY = 25
"""One word of so many may repeat: in planes of exponents, one of fifty does by chance."""
_WIDEST = 255
MANY = 1 << 16
"""The size in bytes of planes that are coded with one call, which other threads do not wait for. It takes 7 µs more."""
LARGE = 1 << 16
"""The size in bytes of a plane from which on the tables of the compiled coder, which are larger, do not count."""
SMALL = 64
"""The size in bytes below which the frame of a coder costs more than it saves."""


_local = threading.local()


def integer_width(spec: TensorSpec) -> int:
    """Return the width in bytes of the integers that a tensor's bytes are read as; 0 if the elements are only bits.

    Complex numbers are read as two reals.
    """
    if spec.dtype.kind == "opaque" or spec.dtype.bits % 8:
        return 0
    return spec.dtype.bits // (16 if spec.dtype.kind == "complex" else 8)


def block_width(spec: TensorSpec) -> int:
    """Return the size in bytes of elements that are only bits, such as blocks of quantised numbers; 0 for other types.

    Bytes at the same position of each block have the same meaning.
    """
    width = spec.dtype.bits // 8
    return width if spec.dtype.kind == "opaque" and spec.dtype.bits % 8 == 0 and 1 < width <= _WIDEST else 0


def looks_random(plane: memoryview) -> bool:
    """Estimate from a sample whether no coder of single bytes can make a plane smaller.

    The order-0 entropy of n bytes, of which each occurs c times, is log2(n) minus the sum of c log2(c) divided by n.
    The sample is sixteen evenly spaced runs, so that it reflects changing statistics.
    """
    if plane.nbytes < _SAMPLE:
        return False
    return weigh_bytes(plane, _SAMPLED_RUNS, _SAMPLE // _SAMPLED_RUNS, _information()) < _RANDOM_INFORMATION


@cache
def _information() -> memoryview:
    """Return c log2(c) for each number of times that a byte can occur in a sample, in fixed point."""
    weights = memoryview(bytearray(8 * (_SAMPLE + 1))).cast("q")
    for count in range(1, _SAMPLE + 1):
        weights[count] = round(count * math.log2(count) * _FIXED)
    return weights


def code_text(plane: memoryview) -> Coded:
    """Code bytes without any known structure except that they may repeat."""
    if plane.nbytes < SMALL:
        return RAW, plane
    return _smaller(_tools().text.compress(plane), plane)


def repetition(data: memoryview, width: int) -> float:
    """Return the share of a run of bytes that is left if what repeats in it is written once; 1 if hardly anything does.

    Args:
        data: The bytes.
        width: Size of an element.
    """
    run = data[:_RUN]
    return len(_tools().text.compress(run)) / run.nbytes if _repeats(run, _ELEMENTS, width) else 1


def _repeats(run: memoryview, width: int, step: int) -> bool:
    """Return whether enough words repeat for a coder of repetitions to save more than it must to be chosen.

    A repetition that has few words costs as many bits as it saves, and a longer one does not save more than its words.
    """
    return repeated_words(run, width, step) * _RARELY > run.nbytes // step


def code_symbols(plane: memoryview) -> Coded:
    """Code a plane by the frequencies of its bytes. A coded plane has its own memory; a raw one shares the input's.

    The compiled coder writes other frames than zstd, as other versions of zstd do. They decode to the same bytes.
    """
    if plane.nbytes < SMALL or looks_random(plane):
        return RAW, plane
    coded = _code_large(plane)
    return _smaller(_tools().huffman.compress(plane) if coded is None else coded, plane)


def _code_large(plane: memoryview) -> bytes | None:
    """Code a large plane with the compiled coder; return None if zstd has to do it."""
    if plane.nbytes < LARGE or kernels.huffman is None:
        return None
    coded: bytes | None = kernels.huffman.encode(plane)
    return coded


def code_all(planes: Sequence[memoryview]) -> list[Coded]:
    """Code planes as ``code_symbols`` does, with a single call of zstd for all that it codes."""
    zstandard = zstd()
    huffman = _tools().huffman
    coded: list[Coded] = [(RAW, plane) for plane in planes]
    some: list[int] = []
    for at, plane in enumerate(planes):
        if plane.nbytes < SMALL or looks_random(plane):
            continue
        if (large := _code_large(plane)) is None:
            some.append(at)
        else:
            coded[at] = _smaller(large, plane)
    chosen = [planes[at] for at in some]
    together = len(some) > 1 and sum(plane.nbytes for plane in chosen) >= MANY
    if together and "multi_compress_to_buffer" in zstandard.backend_features:
        made = huffman.multi_compress_to_buffer(chosen)
    else:
        made = map(huffman.compress, chosen)
    for at, data in zip(some, made, strict=True):
        coded[at] = _smaller(data, planes[at])
    return coded


def code_plane(plane: memoryview) -> Coded:
    """Code a plane as ``code_symbols`` does, or by its repetitions if it has any.

    A run of bytes shows repetitions; scattered samples do not.
    """
    codec, coded = code_symbols(plane)
    run = plane[:_RUN]
    if codec == ZSTD:
        tools = _tools()
        limit = memoryview(coded).nbytes * run.nbytes
        # Exponents have many short matches, which save nothing. Finding out that none is long takes half the time.
        if (
            _repeats(run, _SYMBOLS, 1)
            and len(tools.repeats.compress(run)) * plane.nbytes < limit
            and len(tools.matching.compress(run)) * plane.nbytes < _MATCHES_WORTH * limit
        ):
            coded = min(coded, tools.matching.compress(plane), key=len)
    return codec, coded


def payload_size(pieces: Sequence[Buffer]) -> int:
    """Return the size in bytes of a payload that consists of these pieces."""
    return sum(map(_nbytes, pieces))


def write_planes(head: bytes, coded: Sequence[Coded]) -> list[Buffer]:
    """Return the pieces of a payload: ``head``, the codecs and sizes, the planes."""
    fields: list[int] = []
    pieces: list[Buffer] = [head]
    for codec, plane in coded:
        fields += codec, _nbytes(plane)
        pieces.append(plane)
    pieces[0] = head + plane_table(len(coded)).pack(*fields)
    return pieces


@cache
def plane_table(planes: int) -> struct.Struct:
    """Return the layout of the codecs and sizes of so many planes."""
    return struct.Struct("<" + _PLANE * planes)


def _nbytes(piece: Buffer) -> int:
    return len(piece) if type(piece) is bytes else memoryview(piece).nbytes


def _smaller(coded: bytes, plane: memoryview) -> Coded:
    return (ZSTD, coded) if len(coded) < _WORTH * plane.nbytes else (RAW, plane)


def _long_matches(hash_log: int) -> Any:
    """Return the parameters of a compressor for matches of seven bytes or more, which remembers so many places."""
    zstandard = zstd()
    return zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        window_log=17,
        hash_log=hash_log,
        chain_log=6,
        search_log=1,
        min_match=7,
        target_length=0,
        write_content_size=True,
        write_checksum=False,
    )


def _tools() -> Any:
    """Return the compressors of this thread: they have state and must not be shared."""
    if not hasattr(_local, "huffman"):
        zstandard = zstd()
        # With a tiny hash table and long matches only, nearly all bytes become literals.
        _local.huffman = zstandard.ZstdCompressor(compression_params=_long_matches(hash_log=6))
        _local.repeats = zstandard.ZstdCompressor(compression_params=_long_matches(hash_log=11))
        _local.matching = zstandard.ZstdCompressor(level=1, write_checksum=False)
        _local.text = zstandard.ZstdCompressor(level=3, write_checksum=False)
    return _local
