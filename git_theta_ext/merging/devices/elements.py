"""Convert between the store's bytes and the arrays of numpy that merges compute with on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.model.floats import from_float, is_wide, to_float

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_EXACT = {"F32": "<f4", "C64": "<f4", "F64": "<f8", "C128": "<f8"}
_WHOLE = {"BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"}
_WHOLE |= {"U64": "<u8", "I64": "<i8"}
"""Element type to that of the array that has the same bytes."""


def load_numbers(data: Buffer, dtype: Dtype, *, wide: bool) -> NDArray[Any]:
    """Return elements as one-dimensional numbers: float32, float64 if ``wide``, and integers as int64.

    The result shares ``data`` if nothing changes.
    """
    import numpy as np

    if dtype.name in _WHOLE:
        return np.frombuffer(memoryview(data), _WHOLE[dtype.name]).astype(np.int64, copy=False)
    values = np.frombuffer(memoryview(data), _EXACT[dtype.name]) if dtype.name in _EXACT else to_float(data, dtype)
    return values.astype(np.float64 if wide or is_wide(dtype) else np.float32, copy=False)


def save_numbers(values: NDArray[Any], dtype: Dtype, room: Buffer) -> None:
    """Round numbers to an element type, and write their bytes; see ``model.floats.from_float``."""
    import numpy as np

    same = (_EXACT | _WHOLE).get(dtype.name)
    if same is None:
        memoryview(room)[:] = from_float(values, dtype)
    else:
        np.frombuffer(memoryview(room), same)[:] = values.reshape(-1)
