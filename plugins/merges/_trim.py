"""Keep the elements of a task vector with the largest magnitudes."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option, array_namespace, astype

from . import _tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Array, Trim

OPTIONS: Mapping[str, Option] = {
    "density": Option(0.2, 1e-9, 1.0),
    "scope": Option("model", choices=("model", "rule", "tensor")),
    "ties": Option("original", choices=("original", "exact")),
}
"""Options of methods that trim: the share to keep, of what, and whether to keep more if magnitudes are equal."""


def trim(vector: Array, threshold: Trim) -> Array:
    """Set elements that a threshold does not keep to zero, in place."""
    import numpy as np

    xp = array_namespace(vector)
    if xp is not np and vector.dtype == xp.float32 and threshold.equal >= math.prod(vector.shape):
        return _tensors.trimmed(vector, threshold.bits)
    size = abs(astype(vector, xp.float32, copy=False))
    (least,) = struct.unpack("<f", struct.pack("<I", threshold.bits))
    kept = size >= least
    if threshold.equal < math.prod(vector.shape):
        equal = (size == least).reshape(-1)
        late = (equal.cumsum(0, dtype=xp.int64) > threshold.equal) & equal
        kept &= ~late.reshape(kept.shape)
    vector *= astype(kept, vector.dtype)  # faster than filling by a mask
    return vector
