"""Sort the values that several arrays have for each element, so that they are added in an order of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import array_namespace, astype

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.interfaces import Array


def ascending(arrays: Sequence[Array]) -> list[Array]:
    """Return new arrays with the values of each element in ascending order.

    They are sorted by Batcher's odd-even merge sort (1968, https://doi.org/10.1145/1468075.1468121), whose comparisons
    do not depend on values: each is an operation on whole arrays, which takes a fraction of the time of sorting.

    Args:
        arrays: Floats or integers of 32 or 64 bits, all of one shape and type.
    """
    xp = array_namespace(arrays[0])
    kind = xp.int32 if arrays[0].dtype == xp.float32 else xp.int64
    result = [astype(array, array.dtype) for array in arrays]
    bits = [array.view(kind) for array in result]
    for low, high in _comparisons(len(result)):
        smaller = xp.minimum(result[low], result[high])
        # The other value, also of two zeros with different signs, of which ``minimum`` returns any.
        bits[high] ^= bits[low]
        bits[high] ^= smaller.view(kind)
        result[low][...] = smaller
    return result


def _comparisons(count: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indices to compare; the smaller value belongs to the first one."""
    size = 1
    while size < count:
        step = size
        while step:
            for start in range(step % size, count - step, 2 * step):
                for low in range(start, min(start + step, count - step)):
                    if low // (2 * size) == (low + step) // (2 * size):
                        yield low, low + step
            step //= 2
        size *= 2
