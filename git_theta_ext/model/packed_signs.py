"""Pack long rows of -1, 0 and 1 into a size close to their entropy (ComPEFT, arXiv 2311.13171).

If many signs are not zero, five signs are packed into a byte as digits of base 3, which zstd's Huffman stage compresses
to nearly their entropy. If few are not zero, the gaps between them are stored: Huffman codes the upper bits, while the
lower bits are nearly random and stored as they are.

A packed row begins with a byte for the arrangement:

- 0, digits: one zstd frame with a byte for every five signs, the first sign lowest, padded with zeros.
- 1, gaps: a byte for the number of lower bits; three integers of eight bytes (the number of signs that are not zero,
  the size of the upper parts, the size of the frame); the frame with the upper parts; and for each gap a bit for the
  sign and the lower bits, the lowest last. An upper part is a sum of bytes, all of which are 255 except the last.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.util.zstd import zstd

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    Signs = NDArray[np.int8]

SIGNS_PER_FRAME = 1 << 19
"""The number of signs that are packed together: one for each element of a chunk."""

_DIGITS, _GAPS = range(2)
_SIZE = struct.Struct("<I")
_HEAD = struct.Struct("<BQQQ")
_PER_BYTE = 5
_DENSE = 0.12  # above this share of nonzero signs, digits take less than gaps
_MORE = 255
_UPPER_BITS = 5  # upper bits of a mean gap, which Huffman codes
_MOST_LOWER_BITS = 56


def pack_signs(signs: Signs) -> bytes:
    """Pack a one-dimensional array of -1, 0 and 1."""
    import numpy as np

    positions = np.flatnonzero(signs)
    if positions.size > _DENSE * signs.size:
        return bytes([_DIGITS]) + _huffman(_to_digits(signs))
    gaps = np.diff(positions, prepend=-1) - 1
    lower = max(0, int(gaps.mean()).bit_length() - _UPPER_BITS) if gaps.size else 0
    upper = gaps >> lower
    more = upper // _MORE
    steps = np.full(gaps.size + int(more.sum()), _MORE, np.uint8)
    steps[np.cumsum(more + 1) - 1] = upper - more * _MORE
    frame = _huffman(steps)
    bits = np.empty((gaps.size, lower + 1), np.uint8)
    bits[:, 0] = signs[positions] < 0
    for column in range(lower):
        bits[:, column + 1] = (gaps >> (lower - 1 - column)) & 1
    head = _HEAD.pack(lower, gaps.size, steps.size, len(frame))
    return bytes([_GAPS]) + head + frame + np.packbits(bits).tobytes()


def unpack_signs(data: Buffer, count: int) -> Signs:
    """Return the array of ``count`` elements that ``pack_signs`` packed.

    Raises:
        CorruptError: The data is not a packed array of this size.
    """
    import numpy as np

    view = memoryview(data).cast("B")
    if not view.nbytes or view[0] not in {_DIGITS, _GAPS}:
        raise CorruptError("the signs have an unknown arrangement")
    if view[0] == _DIGITS:
        return _from_digits(_expand(view[1:], -(-count // _PER_BYTE)), count)
    positions, negative = _read_gaps(view[1:], count)
    signs = np.zeros(count, np.int8)
    signs[positions] = 1 - 2 * negative.astype(np.int8)
    return signs


def frame_signs(signs: Signs) -> bytes:
    """Pack at most SIGNS_PER_FRAME signs, preceded by the size of the result in four bytes."""
    packed = pack_signs(signs)
    return _SIZE.pack(len(packed)) + packed


def sign_frames(data: memoryview, count: int) -> list[memoryview]:
    """Return the packed signs in each frame of a long row.

    Args:
        data: The frames of the row, one after another.
        count: Number of signs in the row. All frames except the last one have SIGNS_PER_FRAME.

    Raises:
        CorruptError: The number of bytes or frames does not match.
    """
    wanted = -(-count // SIGNS_PER_FRAME)
    frames: list[memoryview] = []
    position = 0
    while len(frames) < wanted and position + _SIZE.size <= data.nbytes:
        start = position + _SIZE.size
        position = start + _SIZE.unpack_from(data, position)[0]
        frames.append(data[start:position])
    if len(frames) != wanted or position != data.nbytes:
        raise CorruptError(f"the signs are not {wanted} frames")
    return frames


def _read_gaps(view: memoryview, count: int) -> tuple[Any, Any]:
    """Return the positions of the signs that are not zero, and which of them are negative."""
    import numpy as np

    if view.nbytes < _HEAD.size:
        raise CorruptError("the signs are truncated")
    lower, nonzero, stepped, framed = _HEAD.unpack_from(view)
    end = _HEAD.size + framed
    if lower > _MOST_LOWER_BITS or nonzero > count or not nonzero <= stepped <= nonzero + count // _MORE:
        raise CorruptError("the signs have an impossible size")
    if view.nbytes - end != -(-nonzero * (lower + 1) // 8):
        raise CorruptError("the signs do not have their recorded size")
    steps = _expand(view[_HEAD.size : end], stepped)
    last = steps != _MORE
    sums = np.cumsum(steps, dtype=np.int64)
    # The gaps and the signs between them must fit into the row. If they do, no shift below can overflow.
    if int(last.sum()) != nonzero or (stepped and (not last[-1] or (int(sums[-1]) << lower) + nonzero > count)):
        raise CorruptError("the signs have an impossible size")
    gaps = np.diff(sums[last], prepend=0)
    bits = np.unpackbits(np.frombuffer(view[end:], np.uint8), count=nonzero * (lower + 1)).reshape(nonzero, lower + 1)
    for column in range(lower):
        gaps = (gaps << 1) | bits[:, column + 1]
    positions = np.cumsum(gaps + 1) - 1
    if nonzero and positions[-1] >= count:
        raise CorruptError("the signs extend beyond their row")
    return positions, bits[:, 0]


def _to_digits(signs: Signs) -> Any:
    import numpy as np

    digits = np.ones(-(-signs.size // _PER_BYTE) * _PER_BYTE, np.uint8)
    digits[: signs.size] = signs + 1
    packed = np.zeros(digits.size // _PER_BYTE, np.uint8)
    for column in reversed(range(_PER_BYTE)):
        packed *= 3
        packed += digits[column::_PER_BYTE]
    return packed


def _from_digits(packed: Any, count: int) -> Signs:
    import numpy as np

    if packed.size and packed.max() >= 3**_PER_BYTE:
        raise CorruptError("the signs have a digit that base 3 does not have")
    signs = np.empty(packed.size * _PER_BYTE, np.int8)
    for column in range(_PER_BYTE):
        signs[column::_PER_BYTE] = packed % 3
        packed = packed // 3
    signs -= 1
    return signs[:count]


def _huffman(plane: Any) -> bytes:
    zstandard = zstd()
    # Almost no matches are searched for: in random digits they cost more than they save.
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, chain_log=6, search_log=1, min_match=7
    )
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(plane)
    return bytes(frame)


def _expand(frame: memoryview, size: int) -> Any:
    import numpy as np

    zstandard = zstd()
    try:
        if zstandard.frame_content_size(frame) != size:
            raise CorruptError("the number of signs does not fit their row")
        return np.frombuffer(zstandard.ZstdDecompressor().decompress(frame, max_output_size=size), np.uint8)
    except zstandard.ZstdError as error:
        raise CorruptError(f"the signs cannot be decompressed: {error}") from error
