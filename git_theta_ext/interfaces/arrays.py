"""One code for arrays of numpy, on the CPU, and tensors of torch, on CUDA devices.

Both libraries have the operators and most functions of the array API standard (https://data-apis.org/array-api), under
the same names. What they do not have in common in the versions that are supported is here.
"""

from __future__ import annotations

from typing import Any

Array = Any
"""An array of numpy or a tensor of torch. Neither library has a type for both, and arithmetic on a union has none."""


def array_namespace(array: Array) -> Any:
    """Return the library that an array belongs to: numpy or torch."""
    import numpy as np

    if isinstance(array, np.ndarray | np.generic):
        return np
    import torch

    return torch


def astype(array: Array, dtype: Any, *, copy: bool = True) -> Array:
    """Return an array in another element type, rounded once.

    Args:
        array: The array.
        dtype: An element type of its library.
        copy: Whether the result is a new array even if the element type is the same.
    """
    import numpy as np

    if isinstance(array, np.ndarray | np.generic):
        return array.astype(dtype, copy=copy)
    return array.to(dtype, copy=copy)
