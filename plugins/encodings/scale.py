"""The difference from a parent with multiplied rows or columns: a merged IA3 (https://arxiv.org/abs/2205.05638).

A value is predicted as ``parent * multiplier[i]``, where i is its index along the axis, in float64 and rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit, PredictingEncoding, TensorSpec, is_real, to_float64

from . import _floats

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Chunk, TensorSource

    Sides = tuple[memoryview, memoryview]
    """The same part of a tensor and of its parent."""

_MATRIX = 2
_LARGEST = 1 << 30  # bytes of a tensor that is held in memory
_SAMPLE = 1 << 16  # elements
_FITTING = 0.9  # the share of slices that must be multiplied by one number
_EACH = 7  # one element in this many is looked at first; few tensors have a multiple of seven columns
_ENOUGH = 4  # elements of a slice in a sample; with fewer, one number often explains them by chance


class Scale(PredictingEncoding):
    """A multiplier for each slice along an axis, and a residual; lossless for any bytes."""

    name = "scale"
    needs = ("range", "whole")

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Find an axis and multipliers that explain the tensor; see ``git_theta_ext.interfaces.Encoding``."""
        spec = target.spec
        if parent.spec != spec or not is_real(spec.dtype) or len(spec.shape) < _MATRIX:
            return None
        if not 0 < spec.nbytes <= _LARGEST:
            return None
        width = spec.dtype.bits // 8
        first = (spec.elements - min(spec.elements, _SAMPLE)) // 2
        piece = first * width, min(first + _SAMPLE, spec.elements) * width
        data, base = target.read(*piece), parent.read(*piece)
        if data == base:
            return None
        for axis in range(len(spec.shape)):
            if _explains(spec, axis, first, (data, base)):
                return _fitted(spec, axis, (target.read(), parent.read()))
        return None

    def predict(self, chunk: Chunk, out: memoryview) -> None:
        """Write the prediction of one chunk; see ``git_theta_ext.interfaces.Predictor``."""
        import numpy as np

        parent = _floats.check_parent(chunk, out.nbytes, len(self.needs))
        axis, multiplier = _multiplier(chunk)
        width = chunk.spec.dtype.bits // 8
        first = chunk.offset // width
        with np.errstate(all="ignore"):
            for block in _floats.blocks(out.nbytes // width):
                piece = _floats.of_bytes(block, chunk.spec.dtype)
                values = to_float64(parent.data[piece], chunk.spec.dtype)
                values *= multiplier[_indices_along(chunk.spec, axis, first + block.start, first + block.stop)]
                _floats.write(values, chunk.spec.dtype, out[piece])


ENCODING = Scale()


def _multiplier(chunk: Chunk) -> tuple[int, Any]:
    """Return the axis and its multipliers.

    Raises:
        CorruptError: The axis or the multipliers do not fit the tensor.
    """
    axis, shape = chunk.params.get("axis"), chunk.spec.shape
    if isinstance(axis, bool) or not isinstance(axis, int) or not 0 <= axis < len(shape):
        raise CorruptError("parameter 'axis' of a chunk is not an axis of its tensor")
    return axis, _floats.factor(chunk.bases[1], (shape[axis],))


def _indices_along(spec: TensorSpec, axis: int, start: int, end: int, step: int = 1) -> Any:
    """Return the indices along an axis of the elements from ``start`` up to ``end``, or of one in ``step``."""
    import numpy as np

    inner = 1
    for length in spec.shape[axis + 1 :]:
        inner *= length
    return np.arange(start, end, step) // inner % spec.shape[axis]


def _bounds(spec: TensorSpec, axis: int, first: int, sides: Sides, each: int = 1) -> tuple[Any, Any, Any]:
    """Return the lowest and highest multiplier that all elements of each slice allow, and the number of elements.

    Args:
        spec: Of the tensor.
        axis: The axis of the slices.
        first: Number of the first element.
        sides: Bytes of the elements, and of those of the parent.
        each: Look only at one element in this many.
    """
    import numpy as np

    length = spec.shape[axis]
    lowest, highest = np.full(length, -np.inf), np.full(length, np.inf)
    count = np.zeros(length, np.int64)
    values, parents = (np.frombuffer(side, f"<u{spec.dtype.bits // 8}")[::each] for side in sides)
    with np.errstate(all="ignore"):
        for block in _floats.blocks(values.size):
            low, high = _floats.rounding_interval(np.ascontiguousarray(values[block]).data, spec.dtype)
            parent = to_float64(np.ascontiguousarray(parents[block]).data, spec.dtype)
            one, other = low / parent, high / parent
            finite = np.isfinite(one) & np.isfinite(other)
            start, end = first + block.start * each, first + block.stop * each
            indices = _indices_along(spec, axis, start, end, each)[finite]
            np.maximum.at(lowest, indices, np.minimum(one, other)[finite])
            np.minimum.at(highest, indices, np.maximum(one, other)[finite])
            count += np.bincount(indices, minlength=length)
    return lowest, highest, count


def _explains(spec: TensorSpec, axis: int, first: int, sides: Sides) -> bool:
    """Return whether nearly every slice of a sample is multiplied by one number."""
    lowest, highest, count = _bounds(spec, axis, first, sides, _EACH)
    # More elements of a slice only rule out more multipliers. If too many slices have none already, that is enough.
    if ((lowest > highest) & (count >= _ENOUGH)).sum() > (1 - _FITTING) * spec.shape[axis] + 1:
        return False
    lowest, highest, count = _bounds(spec, axis, first, sides)
    seen = count >= _ENOUGH
    return bool(seen.any()) and float((lowest <= highest)[seen].mean()) >= _FITTING


def _fitted(spec: TensorSpec, axis: int, sides: Sides) -> Fit:
    """Return a multiplier for each slice: one that all its elements allow, or the median of their ratios."""
    import numpy as np

    lowest, highest, count = _bounds(spec, axis, 0, sides)
    fits = (lowest <= highest) & (count > 0)
    multipliers = np.ones(spec.shape[axis])
    multipliers[fits] = (lowest[fits] + highest[fits]) / 2
    targets, parents = (
        np.moveaxis(np.frombuffer(buffer, f"<u{spec.dtype.bits // 8}").reshape(spec.shape), axis, 0) for buffer in sides
    )
    for index in np.flatnonzero(~fits & (count > 0)):
        value, parent = (
            to_float64(np.ascontiguousarray(buffer[index]).data, spec.dtype) for buffer in (targets, parents)
        )
        with np.errstate(all="ignore"):
            ratio = value.ravel() / parent.ravel()
        multipliers[index] = np.median(ratio[np.isfinite(ratio)])
    return Fit({"axis": axis}, ((TensorSpec.of("F32", multipliers.shape), multipliers.astype("<f4").tobytes()),))
