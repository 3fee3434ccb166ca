"""Select a part of a tensor by an index, as numpy and torch do, and find the bytes that it needs."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any, SupportsIndex

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Axis = range | tuple[int, ...]
    """The positions that are selected along a dimension."""

    At = slice | list[int]
    """Where these are in an array, as numpy indexes it."""

_OF_SIZE = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16"}
"""Size of an element to a type of numpy with which it is copied."""


@dataclass(frozen=True)
class Selection:
    """The elements of a tensor that an index selects.

    Attributes:
        whole: Shape of the tensor.
        axes: The selected positions along each of its dimensions; at most one is a list.
        shape: Shape of the selection.
    """

    whole: tuple[int, ...]
    axes: tuple[Axis, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, whole: Sequence[int], index: object) -> Selection:
        """Return the selection of an index: integers, slices, ``...``, ``None`` and at most one list of integers.

        Raises:
            IndexError: A position is out of bounds, or there are more of them than dimensions.
            TypeError: The index has something else in it.
            ValueError: A slice does not go forward.
        """
        words = index if isinstance(index, tuple) else (index,)
        given = sum(word is not None and word is not Ellipsis for word in words)
        if given > len(whole):
            raise IndexError(f"{given} indices for a tensor of {len(whole)} dimensions")
        skipped = [slice(None)] * (len(whole) - given)
        if sum(word is Ellipsis for word in words) > 1:
            raise IndexError("an index has at most one ellipsis")
        at = next((number for number, word in enumerate(words) if word is Ellipsis), len(words))
        axes: list[Axis] = []
        shape: list[int] = []
        for word in (*words[:at], *skipped, *words[at + 1 :]):
            if word is None:
                shape.append(1)
                continue
            axis = _axis(word, whole[len(axes)], len(axes))
            axes.append(axis)
            if not _is_integer(word):
                shape.append(len(axis))
        if sum(isinstance(axis, tuple) for axis in axes) > 1:
            raise TypeError("an index has at most one list")
        return cls(tuple(whole), tuple(axes), tuple(shape))

    def needs(self, start: int, end: int) -> bool:
        """Return whether elements from ``start`` up to ``end``, counted in row-major order, are selected."""
        return any(True for _ in self._parts(start, end))

    def buffer(self, itemsize: int) -> NDArray[Any]:
        """Return an array that ``copy`` fills.

        Args:
            itemsize: Size of an element in bytes.
        """
        import numpy as np

        return np.empty([len(axis) for axis in self.axes], _OF_SIZE[itemsize])

    def copy(self, out: NDArray[Any], start: int, data: memoryview) -> None:
        """Copy those of some consecutive elements that are selected.

        Args:
            out: What ``buffer`` returned.
            start: Number of the first of these elements, counted in row-major order.
            data: Their bytes.
        """
        import numpy as np

        elements = np.frombuffer(data, out.dtype)
        for first, box, source, target in self._parts(start, start + len(elements)):
            values = elements[first - start : first - start + prod(box)].reshape(box)
            out[target] = values[source]

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, tuple[int, ...], tuple[At, ...], tuple[At, ...]]]:
        """Yield the boxes of consecutive elements in which elements are selected.

        Yields:
            Number of the box's first element, its shape, and where the selected elements are in it and in the result.
        """
        for first, box in _boxes(self.whole, start, end):
            found = [_overlap(axis, along) for axis, along in zip(self.axes, box, strict=True)]
            pairs = [pair for pair in found if pair is not None]
            if len(pairs) == len(found):
                shape = tuple(len(along) for along in box)
                yield first, shape, tuple(source for source, _ in pairs), tuple(target for _, target in pairs)


def copyable(bits: int) -> bool:
    """Return whether elements of a width can be selected one by one."""
    return bits % 8 == 0 and bits // 8 in _OF_SIZE


def _is_integer(word: object) -> bool:
    return isinstance(word, SupportsIndex) and getattr(word, "shape", ()) == ()


def _axis(word: object, length: int, dimension: int) -> Axis:
    """Return the positions that a part of an index selects along a dimension."""
    if isinstance(word, slice):
        chosen = range(*word.indices(length))
        if chosen.step < 1:
            raise ValueError("the step of a slice must be positive")
        return chosen
    if _is_integer(word) and not isinstance(word, bool):
        at = _position(word, length, dimension)
        return range(at, at + 1)
    values = word.tolist() if hasattr(word, "tolist") else word
    if not isinstance(values, list | tuple | range) or any(isinstance(value, bool) for value in values):
        raise TypeError(f"an index is made of integers, slices and a list of integers, not {type(word).__name__}")
    return tuple(_position(value, length, dimension) for value in values)


def _position(value: Any, length: int, dimension: int) -> int:
    at = operator.index(value)
    if not -length <= at < length:
        raise IndexError(f"index {at} is out of bounds for dimension {dimension} of size {length}")
    return at % length


def _boxes(whole: tuple[int, ...], start: int, end: int, before: int = 0) -> Iterator[tuple[int, tuple[range, ...]]]:
    """Divide consecutive elements into boxes: at most two for each dimension, and one.

    Args:
        whole: Shape of the tensor.
        start: Number of the first element, in row-major order.
        end: Number after the last element.
        before: Added to the numbers of elements that are yielded.

    Yields:
        The number of a box's first element, and its extent along each dimension.
    """
    if start >= end:
        return
    if not whole:
        yield before + start, ()
        return
    inner = prod(whole[1:])
    first, last = -(-start // inner), end // inner
    if first > last:  # inside one row
        first = last = last + 1
    for row, low, high in ((first - 1, start, min(end, first * inner)), (first, 0, 0), (last, last * inner, end)):
        if low < high:
            rest = _boxes(whole[1:], low - row * inner, high - row * inner, before + row * inner)
            yield from ((at, (range(row, row + 1), *box)) for at, box in rest)
        elif row == first and first < last:
            yield before + first * inner, (range(first, last), *map(range, whole[1:]))


def _overlap(axis: Axis, along: range) -> tuple[At, At] | None:
    """Return where the positions of an axis in a range are, in the range and in the axis; None if there are none."""
    if isinstance(axis, range):
        first, last = (_steps(axis, bound) for bound in (along.start, along.stop))
        if first >= last:
            return None
        low = axis[first] - along.start
        return slice(low, axis[last - 1] - along.start + 1, axis.step), slice(first, last)
    chosen = [number for number, at in enumerate(axis) if at in along]
    return ([axis[number] - along.start for number in chosen], chosen) if chosen else None


def _steps(axis: range, bound: int) -> int:
    """Return how many positions of an axis are below a bound."""
    return min(len(axis), max(0, -(-(bound - axis.start) // axis.step)))
