"""The encoding of a tensor that has nothing to lean on: planes of bytes, entropy-coded where that pays.

Trained weights have nearly random mantissas and exponents of some 2.6 bits, so the exponent is split from sign and
mantissa. A plane that looks random is kept raw; others are coded by zstd in a setting that finds next to no matches
and leaves the work to its Huffman stage, which on exponents is smaller and faster than any of zstd's levels.

A payload is a byte for the arrangement, then for each plane a byte for its codec and four for its size, then the
planes. Arrangements: 0 the bytes as they are, 1 one plane an octet, 2 exponent, mantissa's top with the sign, and all
lower bytes as one plane, 3 as 2 with one plane for each lower octet.
"""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

    Octets = npt.NDArray[np.uint8]

_WHOLE, _OCTETS, _SPLIT, _SPLIT_OCTETS = range(4)
_RAW, _ZSTD = range(2)
_PLANE = struct.Struct("<BI")
_SAMPLE = 1 << 12
_RUN = 1 << 14
_RANDOM_BITS = 7.88  # a sample of random octets of that size has an entropy of 7.95 bits and more
_WORTH = 0.98
_MATCHES_WORTH = 0.95
_SMALL = 64  # below this no coder pays for its frame

_local = threading.local()


class Dense:
    """Exponent split and entropy coding; lossless for any bytes."""

    name = "dense"
    bases = 0

    def encode(self, spec: TensorSpec, data: memoryview, bases: Sequence[Buffer]) -> list[Buffer]:
        """Encode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        del bases
        planes, arrangement = [data], _WHOLE
        width = _width(spec)
        if data.nbytes >= _SMALL and width:
            arrangement, arrays = _split(_array(data, width), split=_has_split_exponent(spec))
            planes = [memoryview(array).cast("B") for array in arrays]
        coded = [_code(plane, text=width == 0) for plane in planes]
        if all(codec == _RAW for codec, _ in coded):
            arrangement, coded = _WHOLE, [(_RAW, data)]
        head = bytes([arrangement]) + b"".join(_PLANE.pack(codec, memoryview(p).nbytes) for codec, p in coded)
        return [head, *(piece for _, piece in coded)]

    def decode(self, spec: TensorSpec, payload: memoryview, out: memoryview, bases: Sequence[Buffer]) -> None:
        """Decode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        del bases
        width = _width(spec) or 1
        arrangement = payload[0] if payload.nbytes else -1
        sizes = _plane_sizes(arrangement, out.nbytes, width)
        planes = _planes(payload, sizes)
        if arrangement == _WHOLE:
            out[:] = planes[0]
        else:
            _join(arrangement, planes, _array(out, width))


ENCODING = Dense()


def _width(spec: TensorSpec) -> int:
    """Return the octets of the unsigned integers that a chunk is split as, or 0 where nothing is known of them."""
    if spec.dtype.kind == "opaque" or spec.dtype.bits % 8:
        return 0
    octets = spec.dtype.bits // 8
    if spec.dtype.kind == "complex":
        octets //= 2
    return octets


def _has_split_exponent(spec: TensorSpec) -> bool:
    return spec.dtype.name in {"BF16", "F32", "C64"}


def _array(data: memoryview, width: int) -> Any:
    import numpy as np

    return np.frombuffer(data, f"<u{width}")


def _tools() -> Any:
    """Return this thread's compressors and decompressor: they keep state and must not be shared."""
    if not hasattr(_local, "huffman"):
        import zstandard

        # STORAGE.md's "zhuf": a tiny hash table and long matches only, so that nearly all octets become literals.
        _local.huffman = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(
                strategy=zstandard.STRATEGY_FAST,
                window_log=17,
                hash_log=6,
                chain_log=6,
                search_log=1,
                min_match=7,
                target_length=0,
                write_content_size=True,
                write_checksum=False,
            )
        )
        _local.matching = zstandard.ZstdCompressor(level=1, write_checksum=False)
        _local.text = zstandard.ZstdCompressor(level=3, write_checksum=False)
        _local.decompressor = zstandard.ZstdDecompressor()
    return _local


def _scratch(name: str, count: int, kind: str) -> Any:
    """Return an array that this thread uses again for the next chunk: fresh memory costs more than the arithmetic."""
    import numpy as np

    arrays = _local.__dict__.setdefault("arrays", {})
    found = arrays.get((name, kind))
    if found is None or found.size < count:
        found = arrays[name, kind] = np.empty(count, kind)
    return found[:count]


def _entropy(sample: Octets) -> float:
    import numpy as np

    counts = np.bincount(sample, minlength=256)
    counts = counts[counts > 0]
    return float(np.log2(sample.size) - (counts * np.log2(counts)).sum() / sample.size)


def _sample(plane: memoryview) -> Octets:
    """Return up to 4 KiB: sixteen runs spread evenly, so that changing statistics are seen."""
    octets: Octets = _array(plane, 1)
    if octets.size <= _SAMPLE:
        return octets
    return octets[: octets.size // 16 * 16].reshape(16, -1)[:, : _SAMPLE // 16].reshape(-1)


def _looks_random(plane: memoryview) -> bool:
    sample = _sample(plane)
    return sample.size == _SAMPLE and _entropy(sample) > _RANDOM_BITS


def _code(plane: memoryview, *, text: bool) -> tuple[int, Buffer]:
    """Return codec and octets of a plane; coded octets are never in scratch memory."""
    if plane.nbytes < _SMALL or (not text and _looks_random(plane)):
        return _RAW, plane
    tools = _tools()
    if text:
        coded = tools.text.compress(plane)
    else:
        coded = tools.huffman.compress(plane)
        # Some tensors repeat themselves; there real matching wins. A run of octets shows it, scattered samples do not.
        run = plane[:_RUN]
        if len(tools.matching.compress(run)) * plane.nbytes < _MATCHES_WORTH * len(coded) * run.nbytes:
            coded = min(coded, tools.matching.compress(plane), key=len)
    return (_ZSTD, coded) if len(coded) < _WORTH * plane.nbytes else (_RAW, plane)


def _octet(values: Any, shift: int) -> Octets:
    """Return one octet of each value, in fresh memory since it may be kept as it is."""
    import numpy as np

    plane = np.empty(values.size, np.uint8)
    if shift:
        shifted = _scratch("shifted", values.size, values.dtype.str)
        np.right_shift(values, shift, out=shifted)
        values = shifted
    np.copyto(plane, values, casting="unsafe")
    return plane


def _split(values: Any, *, split: bool) -> tuple[int, list[Any]]:
    """Return the arrangement and the planes of an array of unsigned integers."""
    import numpy as np

    if not split:
        return _OCTETS, [_octet(values, 8 * i) for i in reversed(range(values.itemsize))]
    high, low = values, []
    if values.itemsize == 4:  # noqa: PLR2004 - octets of a float32
        shifted = _scratch("shifted", values.size, "<u4")
        np.right_shift(values, 16, out=shifted)
        high = _scratch("high", values.size, "<u2")
        np.copyto(high, shifted, casting="unsafe")
        low = [np.empty(values.size, np.uint16)]
        np.copyto(low[0], values, casting="unsafe")
    # Rotating the sign to the bottom puts the eight exponent bits into the upper octet.
    rotated, sign = _scratch("rotated", values.size, "<u2"), _scratch("sign", values.size, "<u2")
    np.left_shift(high, 1, out=rotated)
    np.right_shift(high, 15, out=sign)
    np.bitwise_or(rotated, sign, out=rotated)
    top = [_octet(rotated, 8), _octet(rotated, 0)]
    if low and not _looks_random(low[0].data.cast("B")):
        # Cast up from a narrower type, most likely: then the octets differ in kind.
        return _SPLIT_OCTETS, [*top, _octet(low[0], 8), _octet(low[0], 0)]
    return _SPLIT, [*top, *low]


def _plane_sizes(arrangement: int, nbytes: int, width: int) -> list[int]:
    count = nbytes // width
    if arrangement == _WHOLE:
        return [nbytes]
    if nbytes % width == 0:
        if arrangement == _OCTETS:
            return [count] * width
        if arrangement == _SPLIT and width in {2, 4}:
            return [count, count] + [count * 2] * (width == 4)  # noqa: PLR2004 - octets of a float32
        if arrangement == _SPLIT_OCTETS and width == 4:  # noqa: PLR2004 - octets of a float32
            return [count] * 4
    raise CorruptError("a dense chunk of unknown arrangement")


def _planes(payload: memoryview, sizes: list[int]) -> list[Any]:
    """Return each plane's octets; sizes are known beforehand, so that no frame can claim more."""
    import zstandard

    at = 1 + _PLANE.size * len(sizes)
    if payload.nbytes < at:
        raise CorruptError("a dense chunk is cut short")
    planes: list[Any] = []
    for (codec, stored), size in zip(_PLANE.iter_unpack(payload[1:at]), sizes, strict=True):
        piece = payload[at : at + stored]
        at += stored
        if codec == _RAW and piece.nbytes == size:
            planes.append(piece)
        elif codec == _ZSTD and piece.nbytes == stored:
            try:
                if zstandard.frame_content_size(piece) != size:
                    raise CorruptError("a dense chunk's plane has another size than its tensor")
                planes.append(_tools().decompressor.decompress(piece, max_output_size=size))
            except zstandard.ZstdError as error:
                raise CorruptError(f"a dense chunk cannot be decompressed: {error}") from error
        else:
            raise CorruptError("a dense chunk's plane has another size than its tensor")
    if at != payload.nbytes:
        raise CorruptError("a dense chunk has bytes left over")
    return planes


def _join(arrangement: int, planes: list[Any], out: Any) -> None:
    import numpy as np

    octets = [np.frombuffer(plane, np.uint8) for plane in planes]
    if arrangement == _OCTETS:
        np.copyto(out, octets[0])
        scratch = _scratch("shifted", out.size, out.dtype.str)
        for plane in octets[1:]:
            np.left_shift(out, 8, out=out)
            np.copyto(scratch, plane)
            np.bitwise_or(out, scratch, out=out)
        return
    wide = out.itemsize == 4  # noqa: PLR2004 - octets of a float32
    high = _scratch("high", out.size, "<u2") if wide else out
    rotated, sign = _scratch("rotated", out.size, "<u2"), _scratch("sign", out.size, "<u2")
    np.copyto(rotated, octets[0])
    np.left_shift(rotated, 8, out=rotated)
    np.copyto(sign, octets[1])
    np.bitwise_or(rotated, sign, out=rotated)
    np.right_shift(rotated, 1, out=sign)
    np.left_shift(rotated, 15, out=rotated)
    np.bitwise_or(rotated, sign, out=high)
    if wide:
        _join_low(arrangement, octets[2:], high, out)


def _join_low(arrangement: int, octets: list[Octets], high: Any, out: Any) -> None:
    import numpy as np

    np.copyto(out, high)
    np.left_shift(out, 16, out=out)
    low = _scratch("rotated", out.size, "<u2")
    if arrangement == _SPLIT:
        low.view(np.uint8)[:] = octets[0]  # which may begin at any byte of its pack
    else:
        np.copyto(low, octets[0])
        np.left_shift(low, 8, out=low)
        np.bitwise_or(low, octets[1], out=low)
    np.bitwise_or(out, low, out=out)
