"""Arrays of integers: views of bytes, memory that is used again, and their planes of bytes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    Bytes = npt.NDArray[np.uint8]

_local = threading.local()


def as_integers(data: Any, width: int) -> Any:
    """Return a view of bytes as little-endian unsigned integers of ``width`` bytes."""
    import numpy as np

    return np.frombuffer(data, f"<u{width}")


def scratch(name: str, count: int, kind: str) -> Any:
    """Return an array that this thread reuses for every chunk, because new memory costs more than the arithmetic."""
    import numpy as np

    arrays = _local.__dict__.setdefault("arrays", {})
    array = arrays.get((name, kind))
    if array is None or array.size < count:
        array = arrays[name, kind] = np.empty(count, kind)
    return array[:count]


def byte_plane(values: Any, shift: int) -> Bytes:
    """Return the byte that starts at bit ``shift`` of each integer, in new memory because it may be stored raw."""
    import numpy as np

    plane = np.empty(values.size, np.uint8)
    if shift:
        shifted = scratch("shifted", values.size, values.dtype.str)
        np.right_shift(values, shift, out=shifted)
        values = shifted
    np.copyto(plane, values, casting="unsafe")
    return plane


def byte_planes(values: Any) -> list[Bytes]:
    """Return one plane for each byte of an array of integers, the most significant first."""
    return [byte_plane(values, 8 * i) for i in reversed(range(values.itemsize))]


def join_planes(planes: Sequence[Buffer], out: Any) -> None:
    """Join planes into integers, the most significant bytes first; the inverse of ``byte_planes``."""
    import numpy as np

    np.copyto(out, as_integers(planes[0], 1))
    shifted = scratch("shifted", out.size, out.dtype.str)
    for plane in planes[1:]:
        np.left_shift(out, 8, out=out)
        np.copyto(shifted, as_integers(plane, 1))
        np.bitwise_or(out, shifted, out=out)
