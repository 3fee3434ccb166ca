"""Operations that numpy and torch have under different names, or that round or take time differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import array_namespace, astype

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array


def stable_order(array: Array) -> Array:
    """Return the indices that sort the last dimension in ascending order; equal elements keep their order."""
    import numpy as np

    if isinstance(array, np.ndarray):
        return array.argsort(axis=-1, kind="stable")
    return array.argsort(dim=-1, stable=True)


def positions(start: int, array: Array) -> Array:
    """Return the integers from ``start`` on, one for each element of an array, as int64 with one dimension."""
    import numpy as np

    if isinstance(array, np.ndarray):
        return np.arange(start, start + array.size, dtype=np.int64)
    import torch

    return torch.arange(start, start + array.numel(), dtype=torch.int64, device=array.device)


def divide(array: Array, divisor: float) -> Array:
    """Divide by a number, in place, rounding the same on every device.

    CUDA multiplies by the reciprocal of a number on the host, which may change the last bit
    (https://github.com/pytorch/pytorch/issues/191495). It divides by a number on the device.
    """
    import numpy as np

    if isinstance(array, np.ndarray):
        array /= divisor
        return array
    import torch

    return array.div_(torch.full((), divisor, dtype=array.dtype, device=array.device))


def kth_smallest(array: Array, k: int) -> float:
    """Return the element of an array that ``k`` elements precede in ascending order."""
    import numpy as np

    if isinstance(array, np.ndarray):
        return float(np.partition(array.reshape(-1), k)[k])
    return float(array.reshape(-1).kthvalue(k + 1).values)


def largest(sizes: Array, count: int) -> Array:
    """Return a mask of the largest elements of a vector; of those equal to the smallest of them, the first ones."""
    if not count:
        return sizes < 0
    xp = array_namespace(sizes)
    least = kth_smallest(sizes, len(sizes) - count)
    mask = sizes >= least
    surplus = int(xp.count_nonzero(mask)) - count
    if surplus:
        equal = sizes == least
        mask &= ~equal
        mask[xp.where(equal)[0][:-surplus]] = True
    return mask


def clear(array: Array, mask: Array) -> Array:
    """Set the floats that a mask selects to zero, in place, and return the array.

    Both libraries take several times as long for an assignment by a mask.
    """
    xp = array_namespace(array)
    kind = xp.int32 if array.dtype == xp.float32 else xp.int64
    kept = astype(mask, kind)
    kept -= 1
    bits = array.view(kind)
    bits &= kept
    return array
