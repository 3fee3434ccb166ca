"""The difference from a parent plus a scale times signs: an applied ComPEFT update (https://arxiv.org/abs/2311.13171).

A value is predicted as ``parent + scale * s``, where s is -1, 0 or 1, in float64 and rounded once. If s is zero, the
prediction is the parent's value, bit for bit. A payload consists of the size of the packed signs in four bytes, the
signs (``git_theta_ext.interfaces.pack_signs``) and the residual.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import (
    Fit,
    decode_residual,
    encode_residual,
    is_real,
    pack_signs,
    payload_size,
    to_float64,
    unpack_signs,
)

from . import _floats

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Chunk, TensorSource, TensorSpec

_SIZE = struct.Struct("<I")
_SAMPLE = 1 << 18  # elements
_SUSPECT = 0.6  # share of the bytes above which a payload without signs is often smaller
_FEWEST = 64
_F64_ERROR = 2.0**-51  # relative error with which the ends of an interval are computed
_AGREEING = 0.9  # share of the changed elements that must have moved by the same amount
_GLANCE = 1 << 12  # changed elements that are looked at first
_DISAGREEING = 0.8  # share of these below which the others need not be looked at; chance alone explains a few percent


class Ternary:
    """Signs, one scale, and a residual; lossless for any bytes."""

    name = "ternary"
    needs = ("range",)

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Find the amount by which most changed elements moved; see ``git_theta_ext.interfaces.Encoding``."""
        spec = target.spec
        if parent.spec != spec or not is_real(spec.dtype):
            return None
        width = spec.dtype.bits // 8
        first = (spec.elements - min(spec.elements, _SAMPLE)) // 2
        piece = first * width, min(first + _SAMPLE, spec.elements) * width
        scale = _common_step(spec, target.read(*piece), parent.read(*piece))
        return None if scale is None else Fit({"scale": scale})

    def encode(self, chunk: Chunk, data: memoryview) -> list[Buffer]:
        """Encode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        import numpy as np

        parent, scale = self._parent(chunk, data.nbytes)
        dtype = chunk.spec.dtype
        with np.errstate(all="ignore"):
            moved = (to_float64(data, dtype) - to_float64(parent, dtype)) / scale
        signs = np.clip(np.rint(np.nan_to_num(moved, posinf=1, neginf=-1)), -1, 1).astype(np.int8)
        pieces = _encode(chunk, data, parent, scale, signs)
        if payload_size(pieces) > _SUSPECT * data.nbytes:
            return min(pieces, _encode(chunk, data, parent, scale, np.zeros_like(signs)), key=payload_size)
        return pieces

    def decode(self, chunk: Chunk, payload: memoryview, out: memoryview) -> None:
        """Decode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        parent, scale = self._parent(chunk, out.nbytes)
        if payload.nbytes < _SIZE.size:
            raise CorruptError("a chunk is truncated")
        end = _SIZE.size + _SIZE.unpack_from(payload)[0]
        signs = unpack_signs(payload[_SIZE.size : end], out.nbytes * 8 // chunk.spec.dtype.bits)
        decode_residual(chunk.spec, payload[end:], _moved(chunk, parent, scale, signs), out)

    def _parent(self, chunk: Chunk, nbytes: int) -> tuple[memoryview, float]:
        scale = _floats.finite_number(chunk.params, "scale")
        if scale <= 0:
            raise CorruptError("parameter 'scale' of a chunk is not positive")
        return _floats.check_parent(chunk, nbytes, len(self.needs)).data, scale


ENCODING = Ternary()


def _encode(chunk: Chunk, data: memoryview, parent: memoryview, scale: float, signs: Any) -> list[Buffer]:
    packed = pack_signs(signs)
    missed = encode_residual(chunk.spec, data, _moved(chunk, parent, scale, signs))
    return [_SIZE.pack(len(packed)) + packed, *missed]


def _moved(chunk: Chunk, parent: memoryview, scale: float, signs: Any) -> memoryview:
    """Return the prediction: the parent, in which the elements with a nonzero sign are moved."""
    import numpy as np

    predicted = bytearray(parent)
    kind = f"<u{chunk.spec.dtype.bits // 8}"
    positions = np.flatnonzero(signs)
    with np.errstate(all="ignore"):
        values = to_float64(np.frombuffer(parent, kind)[positions].data, chunk.spec.dtype)
        values += scale * signs[positions]
    moved = memoryview(bytearray(positions.size * chunk.spec.dtype.bits // 8))
    _floats.write(values, chunk.spec.dtype, moved)
    np.frombuffer(predicted, kind)[positions] = np.frombuffer(moved, kind)
    return memoryview(predicted)


def _common_step(spec: TensorSpec, data: memoryview, base: memoryview) -> float | None:
    """Return the amount by which nearly all changed elements of a sample moved, or None if they do not agree."""
    import numpy as np

    kind = f"<u{spec.dtype.bits // 8}"
    values, parents = np.frombuffer(data, kind), np.frombuffer(base, kind)
    changed = np.flatnonzero(values != parents)
    if changed.size < _FEWEST:
        return None
    few = changed[:: changed.size // _GLANCE] if changed.size >= 2 * _GLANCE else changed[:0]
    if _agreeing(spec, values[few], parents[few])[0] < _DISAGREEING * few.size:
        return None
    holding, scale = _agreeing(spec, values[changed], parents[changed])
    return scale if holding >= _AGREEING * changed.size and 0 < scale < float("inf") else None


def _agreeing(spec: TensorSpec, values: Any, parents: Any) -> tuple[int, float]:
    """Return how many changed elements moved by the same amount at most, and that amount."""
    import numpy as np

    with np.errstate(all="ignore"):
        low, high = _floats.rounding_interval(values.data, spec.dtype)
        parent = to_float64(parents.data, spec.dtype)
        one, other = low - parent, high - parent
        slack = _F64_ERROR * (np.abs(low) + np.abs(parent))
        near, far = np.minimum(np.abs(one), np.abs(other)) - slack, np.maximum(np.abs(one), np.abs(other)) + slack
    finite = np.isfinite(far)
    return _most_held(near[finite], far[finite]) if finite.any() else (0, 0.0)


def _most_held(near: Any, far: Any) -> tuple[int, float]:
    """Return how many of some intervals have an amount in common at most, and that amount."""
    import numpy as np

    near, far = np.sort(near), np.sort(far)
    # An amount is in the intervals that have started and not yet ended there. Their number is largest at a start.
    ended = np.searchsorted(far, near, side="left")
    holding = np.arange(1, near.size + 1) - ended
    best = int(holding.argmax())
    return int(holding[best]), float((near[best] + far[ended[best]]) / 2)
