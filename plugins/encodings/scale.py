"""The difference from a parent with multiplied rows or columns: a merged IA3 (https://arxiv.org/abs/2205.05638).

A value is predicted as ``parent * multiplier[i]``, i its place along the axis, in float64 and rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit, PredictingEncoding, TensorSpec, is_real, to_float64

from . import _floats

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Chunk, TensorSource

_MATRIX = 2
_LARGEST = 1 << 30  # bytes of a tensor that is held in memory
_SAMPLE = 1 << 16  # elements
_FITTING = 0.9  # of the slices must be multiplied by one number
_ENOUGH = 4  # elements of a slice in a sample, below which one number explains too much by chance


class Scale(PredictingEncoding):
    """A multiplier for each slice along an axis, and what they miss; lossless for any bytes."""

    name = "scale"
    needs = ("range", "whole")

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Find axis and multipliers if they explain the tensor; see ``git_theta_ext.interfaces.Encoding``."""
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
            if _explains(spec, axis, first, data, base):
                return _fitted(spec, axis, target.read(), parent.read())
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
                values *= multiplier[_places(chunk.spec, axis, first + block.start, first + block.stop)]
                _floats.write(values, chunk.spec.dtype, out[piece])


ENCODING = Scale()


def _multiplier(chunk: Chunk) -> tuple[int, Any]:
    """Return the axis and its multipliers.

    Raises:
        CorruptError: They do not fit the tensor.
    """
    axis, shape = chunk.params.get("axis"), chunk.spec.shape
    if isinstance(axis, bool) or not isinstance(axis, int) or not 0 <= axis < len(shape):
        raise CorruptError("parameter 'axis' of a chunk is not an axis of its tensor")
    return axis, _floats.factor(chunk.bases[1], (shape[axis],))


def _places(spec: TensorSpec, axis: int, start: int, end: int) -> Any:
    """Return the places along an axis of the elements from ``start`` up to ``end``."""
    import numpy as np

    inner = 1
    for length in spec.shape[axis + 1 :]:
        inner *= length
    return np.arange(start, end) // inner % spec.shape[axis]


def _bounds(spec: TensorSpec, axis: int, first: int, data: memoryview, base: memoryview) -> tuple[Any, Any, Any]:
    """Return for each slice the lowest and the highest multiplier that all its elements allow, and their number."""
    import numpy as np

    length = spec.shape[axis]
    lowest, highest = np.full(length, -np.inf), np.full(length, np.inf)
    count = np.zeros(length, np.int64)
    with np.errstate(all="ignore"):
        for block in _floats.blocks(data.nbytes * 8 // spec.dtype.bits):
            piece = _floats.of_bytes(block, spec.dtype)
            _, low, high = _floats.rounding_interval(data[piece], spec.dtype)
            parent = to_float64(base[piece], spec.dtype)
            one, other = low / parent, high / parent
            known = np.isfinite(one) & np.isfinite(other)
            places = _places(spec, axis, first + block.start, first + block.stop)[known]
            np.maximum.at(lowest, places, np.minimum(one, other)[known])
            np.minimum.at(highest, places, np.maximum(one, other)[known])
            count += np.bincount(places, minlength=length)
    return lowest, highest, count


def _explains(spec: TensorSpec, axis: int, first: int, data: memoryview, base: memoryview) -> bool:
    """Return from a sample whether nearly every slice was multiplied by one number."""
    lowest, highest, count = _bounds(spec, axis, first, data, base)
    seen = count >= _ENOUGH
    return bool(seen.any()) and float((lowest <= highest)[seen].mean()) >= _FITTING


def _fitted(spec: TensorSpec, axis: int, data: memoryview, base: memoryview) -> Fit:
    """Return for each slice a multiplier that all its elements allow, or where none is the middle of their ratios."""
    import numpy as np

    lowest, highest, count = _bounds(spec, axis, 0, data, base)
    fits = (lowest <= highest) & (count > 0)
    found = np.ones(spec.shape[axis])
    found[fits] = (lowest[fits] + highest[fits]) / 2
    targets, parents = (
        np.moveaxis(np.frombuffer(each, f"<u{spec.dtype.bits // 8}").reshape(spec.shape), axis, 0)
        for each in (data, base)
    )
    for place in np.flatnonzero(~fits & (count > 0)):
        value, parent = (to_float64(np.ascontiguousarray(each[place]).data, spec.dtype) for each in (targets, parents))
        with np.errstate(all="ignore"):
            ratio = value.ravel() / parent.ravel()
        found[place] = np.median(ratio[np.isfinite(ratio)])
    return Fit({"axis": axis}, ((TensorSpec.of("F32", found.shape), found.astype("<f4").tobytes()),))
