"""Elementwise operations of the coders, in single passes if the compiled module is installed, and else with numpy.

Both give the same bits. The compiled module is missing if the package was built without a C compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding.planes import as_integers, byte_plane, join_bytes, scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

_WIDE = 4
_KEYS = 256


def _compiled() -> Any:
    """Return the compiled module, or None if it is not installed."""
    try:
        return import_module("git_theta_ext.coding._kernels")
    except ImportError:
        return None


compiled = _compiled()


def split_exponents(values: Any) -> list[Any]:
    """Return planes of bf16 or float32 values: the exponents, the top of the mantissas with the signs, other bits.

    Args:
        values: Unsigned integers of two or four bytes. The lower two of four are one plane.
    """
    import numpy as np

    count, wide = values.size, values.itemsize == _WIDE
    if compiled is not None:
        exponents, tops = np.empty(count, np.uint8), np.empty(count, np.uint8)
        lows = np.empty(count if wide else 0, "<u2")
        compiled.split(values, exponents, tops, lows)
        return [exponents, tops, lows] if wide else [exponents, tops]
    high, low = values, []
    if wide:
        shifted = scratch("shifted", count, "<u4")
        np.right_shift(values, 16, out=shifted)
        high = scratch("high", count, "<u2")
        np.copyto(high, shifted, casting="unsafe")
        low = [np.empty(count, "<u2")]
        np.copyto(low[0], values, casting="unsafe")
    # Rotating the sign into the lowest bit moves the eight exponent bits into the upper byte.
    rotated, sign = scratch("rotated", count, "<u2"), scratch("sign", count, "<u2")
    np.left_shift(high, 1, out=rotated)
    np.right_shift(high, 15, out=sign)
    np.bitwise_or(rotated, sign, out=rotated)
    return [byte_plane(rotated, 8), byte_plane(rotated, 0), *low]


def join_exponents(exponents: Buffer, tops: Buffer, lows: Buffer, out: Any) -> None:
    """Write the values for which ``split_exponents`` returns these planes.

    Args:
        exponents: A byte for each value.
        tops: A byte for each value.
        lows: Two bytes for each value of four bytes, at any address; nothing for values of two bytes.
        out: Unsigned integers of two or four bytes.
    """
    import numpy as np

    if compiled is not None:
        compiled.join(exponents, tops, lows, out)
        return
    wide = out.itemsize == _WIDE
    high = scratch("high", out.size, "<u2") if wide else out
    rotated, sign = scratch("rotated", out.size, "<u2"), scratch("sign", out.size, "<u2")
    join_bytes([exponents, tops], rotated)
    np.right_shift(rotated, 1, out=sign)
    np.left_shift(rotated, 15, out=rotated)
    np.bitwise_or(rotated, sign, out=high)
    if wide:
        np.copyto(out, high)
        np.left_shift(out, 16, out=out)
        low = scratch("rotated", out.size, "<u2")
        low.view(np.uint8)[:] = as_integers(lows, 1)
        np.bitwise_or(out, low, out=out)


def order_by_key(keys: Any, lasts: Sequence[int]) -> tuple[Any, list[int]]:
    """Return the order that sorts elements by their keys, and the ends of some keys in it.

    Args:
        keys: A byte for each element. Elements with the same key stay in order.
        lasts: Keys in ascending order.

    Returns:
        What ``take`` and ``put`` need, and for each of ``lasts`` the number of elements with at most this key.
    """
    import numpy as np

    if compiled is not None:
        counts = np.empty(_KEYS, np.int64)
        compiled.count(keys, counts)
        return keys, counts.cumsum()[list(lasts)].tolist()
    order = np.argsort(keys, kind="stable")
    return order, np.searchsorted(keys, np.array(lasts, np.uint8), side="right", sorter=order).tolist()


def take(values: Any, order: Any, out: Any) -> None:
    """Write values in an order of ``order_by_key``."""
    import numpy as np

    if order.itemsize == 1:
        compiled.group(values, order, out)
    else:  # no index is out of range, and the mode "clip" avoids a copy of the whole array
        np.take(values, order, out=out, mode="clip")


def put(values: Any, order: Any, out: Any) -> None:
    """Write the values that ``take`` writes as these."""
    if order.itemsize == 1:
        compiled.ungroup(values, order, out)
    else:
        out[order] = values
