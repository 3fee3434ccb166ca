"""Long rows of -1, 0 and 1 in close to the fewest bytes that chance allows (ComPEFT, arXiv 2311.13171).

Many that are not zero: five to a byte as digits of base 3, which zstd's Huffman stage brings near their entropy. Few:
the gaps between them, of which Huffman codes the upper bits, while the lower ones are nearly random and kept as bits.

A row is a byte for the arrangement, then:
0, digits: one zstd frame of a byte for each five, the first one lowest, filled up with zeros.
1, gaps: a byte for the number of lower bits, three numbers of eight bytes (of those that are not zero, of the bytes of
upper bits, of the frame), the frame, and for each gap a bit for the sign and the lower bits, the lowest last. An upper
part is a sum of bytes, of which all but the last one are 255.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    Signs = NDArray[np.int8]

SIGNS_PER_FRAME = 1 << 19
"""Signs that are packed together: those of a chunk's elements."""

_DIGITS, _GAPS = range(2)
_SIZE = struct.Struct("<I")
_HEAD = struct.Struct("<BQQQ")
_PER_BYTE = 5
_DENSE = 0.12  # above this share of non-zeros, digits take less than gaps
_MORE = 255
_UPPER_BITS = 5  # of a mean gap, left to Huffman
_MOST_LOWER_BITS = 56


def pack_signs(signs: Signs) -> bytes:
    """Pack a one-dimensional array of -1, 0 and 1."""
    import numpy as np

    places = np.flatnonzero(signs)
    if places.size > _DENSE * signs.size:
        return bytes([_DIGITS]) + _huffman(_to_digits(signs))
    gaps = np.diff(places, prepend=-1) - 1
    lower = max(0, int(gaps.mean()).bit_length() - _UPPER_BITS) if gaps.size else 0
    upper = gaps >> lower
    more = upper // _MORE
    steps = np.full(gaps.size + int(more.sum()), _MORE, np.uint8)
    steps[np.cumsum(more + 1) - 1] = upper - more * _MORE
    frame = _huffman(steps)
    bits = np.empty((gaps.size, lower + 1), np.uint8)
    bits[:, 0] = signs[places] < 0
    for column in range(lower):
        bits[:, column + 1] = (gaps >> (lower - 1 - column)) & 1
    head = _HEAD.pack(lower, gaps.size, steps.size, len(frame))
    return bytes([_GAPS]) + head + frame + np.packbits(bits).tobytes()


def unpack_signs(data: Buffer, count: int) -> Signs:
    """Unpack what ``pack_signs`` made of an array of ``count`` elements.

    Raises:
        CorruptError: The data cannot be such an array.
    """
    import numpy as np

    view = memoryview(data).cast("B")
    if not view.nbytes or view[0] not in {_DIGITS, _GAPS}:
        raise CorruptError("signs of unknown arrangement")
    if view[0] == _DIGITS:
        return _from_digits(_expand(view[1:], -(-count // _PER_BYTE)), count)
    places, negative = _read_gaps(view[1:], count)
    signs = np.zeros(count, np.int8)
    signs[places] = 1 - 2 * negative.astype(np.int8)
    return signs


def frame_signs(signs: Signs) -> bytes:
    """Pack at most SIGNS_PER_FRAME signs, preceded by the size of the result in four bytes."""
    packed = pack_signs(signs)
    return _SIZE.pack(len(packed)) + packed


def sign_frames(data: memoryview, count: int) -> list[memoryview]:
    """Return the packed signs in each frame of a long row.

    Args:
        data: The frames of the row, one after another.
        count: Signs in the row; all frames but the last one have SIGNS_PER_FRAME.

    Raises:
        CorruptError: There are more or fewer bytes or frames than that.
    """
    wanted = -(-count // SIGNS_PER_FRAME)
    frames: list[memoryview] = []
    position = 0
    while len(frames) < wanted and position + _SIZE.size <= data.nbytes:
        start = position + _SIZE.size
        position = start + _SIZE.unpack_from(data, position)[0]
        frames.append(data[start:position])
    if len(frames) != wanted or position != data.nbytes:
        raise CorruptError(f"signs that are not {wanted} frames")
    return frames


def _read_gaps(view: memoryview, count: int) -> tuple[Any, Any]:
    """Return the places that are not zero, and which of them are negative."""
    import numpy as np

    if view.nbytes < _HEAD.size:
        raise CorruptError("signs are cut short")
    lower, found, stepped, framed = _HEAD.unpack_from(view)
    end = _HEAD.size + framed
    if lower > _MOST_LOWER_BITS or found > count or not found <= stepped <= found + count // _MORE:
        raise CorruptError("signs of impossible size")
    if view.nbytes - end != -(-found * (lower + 1) // 8):
        raise CorruptError("signs of another size than they claim")
    steps = _expand(view[_HEAD.size : end], stepped)
    last = steps != _MORE
    sums = np.cumsum(steps, dtype=np.int64)
    # All gaps and what they lie between must fit; once they do, no shift below can overflow.
    if int(last.sum()) != found or (stepped and (not last[-1] or (int(sums[-1]) << lower) + found > count)):
        raise CorruptError("signs of impossible size")
    gaps = np.diff(sums[last], prepend=0)
    bits = np.unpackbits(np.frombuffer(view[end:], np.uint8), count=found * (lower + 1)).reshape(found, lower + 1)
    for column in range(lower):
        gaps = (gaps << 1) | bits[:, column + 1]
    places = np.cumsum(gaps + 1) - 1
    if found and places[-1] >= count:
        raise CorruptError("signs beyond the end of their row")
    return places, bits[:, 0]


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
        raise CorruptError("signs with a digit that base 3 has not")
    signs = np.empty(packed.size * _PER_BYTE, np.int8)
    for column in range(_PER_BYTE):
        signs[column::_PER_BYTE] = packed % 3
        packed = packed // 3
    signs -= 1
    return signs[:count]


def _huffman(plane: Any) -> bytes:
    import zstandard

    # Next to no matches are looked for: among random digits they cost more than they save.
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, chain_log=6, search_log=1, min_match=7
    )
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(plane)
    return bytes(frame)


def _expand(frame: memoryview, size: int) -> Any:
    import numpy as np
    import zstandard

    try:
        if zstandard.frame_content_size(frame) != size:
            raise CorruptError("signs of another size than their row")
        return np.frombuffer(zstandard.ZstdDecompressor().decompress(frame, max_output_size=size), np.uint8)
    except zstandard.ZstdError as error:
        raise CorruptError(f"signs cannot be decompressed: {error}") from error
