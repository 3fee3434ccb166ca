"""Code bytes on their own: planes of bytes, entropy-coded if that makes them smaller.

Trained weights have nearly random mantissas and exponents with an entropy of about 2.6 bits, so the exponent is split
from the sign and the mantissa.

A payload consists of a byte for the arrangement and the planes. The arrangements are:

- 0: the bytes as they are, or compressed as a text if whole elements repeat;
- 1: one plane for each byte of an integer;
- 2: the exponent; the top of the mantissa with the sign; all lower bytes as one plane;
- 3: as 2, with one plane for each lower byte;
- 4: one plane for each position in a block of quantised numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.kernels import join_bytes, join_exponents, split_bytes, split_exponents
from git_theta_ext.coding.planes import (
    RAW,
    SMALL,
    block_width,
    code_all,
    code_plane,
    code_text,
    integer_width,
    looks_random,
    payload_size,
    repetition,
    write_planes,
)
from git_theta_ext.coding.stored_planes import read_planes, read_values
from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

_REPEATING = 1 << 16
"""The size in bytes from which a look at a sample costs little."""
_WORTH = 0.95

_WHOLE, _BYTES, _SPLIT, _SPLIT_BYTES, _PLACES = range(5)


def encode_dense(spec: TensorSpec, data: memoryview) -> list[Buffer]:
    """Encode the bytes of a chunk on their own; lossless for any bytes.

    Args:
        spec: Element type and shape of the whole tensor.
        data: The chunk's little-endian bytes.

    Returns:
        The pieces of the payload, one of which may be ``data`` itself.
    """
    planes, arrangement = [data], _WHOLE
    width = integer_width(spec)
    if data.nbytes >= SMALL and width:
        arrangement, parts = _split(data, width, split=_has_split_exponent(spec))
        planes = [memoryview(part) for part in parts]
    coded = [code_plane(plane) if width else code_text(plane) for plane in planes]
    if all(codec == RAW for codec, _ in coded):
        arrangement, coded = _WHOLE, [(RAW, data)]
    pieces = write_planes(bytes([arrangement]), coded)
    if (
        width > 1
        and data.nbytes >= _REPEATING
        and repetition(data, width) < _WORTH * payload_size(pieces) / data.nbytes
    ):
        # Whole elements repeat, as in measured values, tables and pruned weights.
        pieces = min(pieces, write_planes(bytes([_WHOLE]), [code_text(data)]), key=payload_size)
    block = block_width(spec)
    if block and data.nbytes >= SMALL * block and data.nbytes % block == 0:
        return min(pieces, _by_place(data, block), key=payload_size)
    return pieces


def decode_dense(spec: TensorSpec, payload: memoryview, out: memoryview) -> None:
    """Decode a chunk into ``out``, which has exactly its size.

    Raises:
        CorruptError: The payload cannot be that of a chunk of that size.
    """
    width = integer_width(spec) or 1
    arrangement = payload[0] if payload.nbytes else -1
    sizes = _plane_sizes(arrangement, out.nbytes, width, block_width(spec))
    if arrangement == _SPLIT and width == 2 and read_values(payload[1:], out):  # noqa: PLR2004 - bytes of a bf16
        return
    planes = read_planes(payload[1:], sizes)
    if arrangement == _WHOLE:
        out[:] = memoryview(planes[0])
    elif arrangement == _PLACES:
        join_bytes(planes, out)
    elif arrangement == _BYTES:
        join_bytes(planes[::-1], out)
    else:
        _join(arrangement, planes, out, width)


def _has_split_exponent(spec: TensorSpec) -> bool:
    return spec.dtype.name in {"BF16", "F32", "C64"}


def _split(data: memoryview, width: int, *, split: bool) -> tuple[int, list[Buffer]]:
    """Return the arrangement and the planes of unsigned integers."""
    if not split:
        return _BYTES, split_bytes(data, width)[::-1]
    exponents, tops, *low = split_exponents(data, width)
    if low and not looks_random(memoryview(low[0])):
        # The values are most likely cast from a narrower type, so that the lower bytes differ in distribution.
        return _SPLIT_BYTES, [exponents, tops, *split_bytes(memoryview(low[0]), 2)[::-1]]
    return _SPLIT, [exponents, tops, *low]


def _by_place(data: memoryview, width: int) -> list[Buffer]:
    """Return a payload with a plane for each position in blocks of ``width`` bytes."""
    return write_planes(bytes([_PLACES]), code_all([memoryview(plane) for plane in split_bytes(data, width)]))


def _plane_sizes(arrangement: int, nbytes: int, width: int, block: int) -> list[int]:
    count = nbytes // width
    if arrangement == _WHOLE:
        return [nbytes]
    if arrangement == _PLACES and block and nbytes % block == 0:
        return [nbytes // block] * block
    if nbytes % width == 0:
        if arrangement == _BYTES:
            return [count] * width
        if arrangement == _SPLIT and width in {2, 4}:
            return [count, count] + [count * 2] * (width == 4)  # noqa: PLR2004 - bytes of a float32
        if arrangement == _SPLIT_BYTES and width == 4:  # noqa: PLR2004 - bytes of a float32
            return [count] * 4
    raise CorruptError("a dense chunk has an unknown arrangement")


def _join(arrangement: int, planes: Sequence[Buffer], out: memoryview, width: int) -> None:
    exponents, tops, *low = planes
    if arrangement == _SPLIT_BYTES:
        joined = memoryview(bytearray(out.nbytes // 2))
        join_bytes(low[::-1], joined)
        low = [joined]
    join_exponents(exponents, tops, low[0] if low else b"", out, width)
