"""Elementwise operations of the coders, in single passes if the compiled modules are installed, and else with numpy.

Both give the same bits. The compiled modules are missing if the package was built without a C compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding.arrays import as_integers, byte_plane, join_planes, scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

_VERSIONS = {
    "_blake3": 1,
    "_factors": 1,
    "_huffman": 4,
    "_kernels": 4,
    "_literals": 2,
    "_merges": 5,
    "_residuals": 4,
    "_sha256": 1,
}
"""Of the functions in the C sources. An editable install keeps what was built before a source changed."""
_WIDE = 4
_BYTES = 256
_HASH_FACTOR, _HASH_SHIFT = 0x9E3779B97F4A7C15, 51


def load_compiled(name: str) -> Any:
    """Return a compiled module, or None if it is not installed, was built from another source, or cannot run here."""
    try:
        module = import_module(f"git_theta_ext.coding.{name}")
    except ImportError:
        return None
    return module if getattr(module, "VERSION", 0) == _VERSIONS[name] else None


compiled = load_compiled("_kernels")

residuals: Any
"""What residual.py, stripe_plan.py and stripes.py do, with three calls in place of a hundred of numpy."""
huffman: Any
"""Frames of zstd in half the time that zstd takes; see ``planes.code_symbols``."""
literals: Any
"""The content of frames that the coder above writes for exponents, in half of the time that zstd takes."""
sha256: Any
"""SHA-256 of two messages in the time that one takes; None also if the processor has no instructions for SHA-256."""

_ON_DEMAND = frozenset({"residuals", "huffman", "literals", "sha256"})


def __getattr__(name: str) -> Any:
    """Load one of the modules above that small tensors do not need."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = globals()[name] = load_compiled(f"_{name}")
    return module


def split_exponents(data: memoryview, width: int) -> list[Buffer]:
    """Return planes of bf16 or float32 values: the exponents, the top of the mantissas with the signs, other bits.

    Args:
        data: Little-endian values.
        width: Size of a value in bytes, two or four. The lower two of four are one plane.
    """
    if compiled is not None:
        return list(compiled.split(data, width))
    import numpy as np

    values = as_integers(data, width)
    high, low = values, []
    if width == _WIDE:
        shifted = scratch("shifted", values.size, "<u4")
        np.right_shift(values, 16, out=shifted)
        high = scratch("high", values.size, "<u2")
        np.copyto(high, shifted, casting="unsafe")
        low = [np.empty(values.size, "<u2")]
        np.copyto(low[0], values, casting="unsafe")
    # Rotating the sign into the lowest bit moves the eight exponent bits into the upper byte.
    rotated, sign = scratch("rotated", values.size, "<u2"), scratch("sign", values.size, "<u2")
    np.left_shift(high, 1, out=rotated)
    np.right_shift(high, 15, out=sign)
    np.bitwise_or(rotated, sign, out=rotated)
    return [plane.view(np.uint8).data for plane in (byte_plane(rotated, 8), byte_plane(rotated, 0), *low)]


def join_exponents(exponents: Buffer, tops: Buffer, lows: Buffer, out: memoryview, width: int) -> None:
    """Write the values for which ``split_exponents`` returns these planes.

    Args:
        exponents: A byte for each value.
        tops: A byte for each value.
        lows: Two bytes for each value of four bytes, at any address; nothing for values of two bytes.
        out: Takes the values.
        width: Size of a value in bytes.
    """
    if compiled is not None:
        compiled.join(exponents, tops, lows, out)
        return
    import numpy as np

    values = as_integers(out, width)
    wide = width == _WIDE
    high = scratch("high", values.size, "<u2") if wide else values
    rotated, sign = scratch("rotated", values.size, "<u2"), scratch("sign", values.size, "<u2")
    join_planes([exponents, tops], rotated)
    np.right_shift(rotated, 1, out=sign)
    np.left_shift(rotated, 15, out=rotated)
    np.bitwise_or(rotated, sign, out=high)
    if wide:
        np.copyto(values, high)
        np.left_shift(values, 16, out=values)
        low = scratch("rotated", values.size, "<u2")
        low.view(np.uint8)[:] = as_integers(lows, 1)
        np.bitwise_or(values, low, out=values)


def split_bytes(data: memoryview, width: int) -> list[Buffer]:
    """Return a plane for each byte of elements of ``width`` bytes, in the order in which the bytes are in memory."""
    if compiled is not None:
        return list(compiled.split_bytes(data, width))
    import numpy as np

    planes = np.ascontiguousarray(as_integers(data, 1).reshape(-1, width).T)
    return [plane.data for plane in planes]


def join_bytes(planes: Sequence[Buffer], out: memoryview) -> None:
    """Write the elements for which ``split_bytes`` returns these planes."""
    if compiled is not None:
        compiled.join_bytes(tuple(planes), out)
        return
    import numpy as np

    positions = np.stack([as_integers(plane, 1) for plane in planes])
    np.copyto(as_integers(out, 1).reshape(-1, len(planes)), positions.T)


def uncleared(nbytes: int) -> bytearray:
    """Return memory for bytes that are all written before any of them is read; what it has means nothing."""
    if compiled is None:
        return bytearray(nbytes)
    room: bytearray = compiled.uncleared(nbytes)
    return room


def repeated_words(data: memoryview, width: int, step: int) -> int:
    """Return how many words of some bytes are equal to the last word before them that has the same hash.

    Args:
        data: The bytes.
        width: Bytes of a word, four or eight.
        step: Words begin at multiples of it, fewer than 2^16 of them.
    """
    if compiled is not None:
        count: int = compiled.repeated_words(data, width, step)
        return count
    if data.nbytes < width:
        return 0
    import numpy as np

    places = np.lib.stride_tricks.sliding_window_view(as_integers(data, 1), width)[::step]
    words = np.ascontiguousarray(places).view(f"<u{width}").reshape(-1).astype(np.uint64)
    hashes = (words * np.uint64(_HASH_FACTOR) >> np.uint64(_HASH_SHIFT)).astype(np.uint16)
    order = np.argsort(hashes, kind="stable")
    alike = hashes[order[1:]] == hashes[order[:-1]]
    return int((alike & (words[order[1:]] == words[order[:-1]])).sum())


def weigh_bytes(plane: memoryview, runs: int, size: int, weights: memoryview) -> int:
    """Return the sum of a weight for each of the 256 bytes, given by how often it occurs in a sample.

    Args:
        plane: The bytes to sample.
        runs: Number of evenly spaced runs in the sample.
        size: Bytes of a run. There are as many bytes in all runs together as in the plane, or less.
        weights: Integers of eight bytes: the weight of a byte that does not occur, that occurs once, and so on.
    """
    if compiled is not None:
        weight: int = compiled.weigh(plane, runs, size, weights)
        return weight
    import numpy as np

    step = plane.nbytes // runs
    sample = as_integers(plane, 1)[: step * runs].reshape(runs, step)[:, :size]
    return int(np.frombuffer(weights, np.int64)[np.bincount(sample.reshape(-1), minlength=_BYTES)].sum())
