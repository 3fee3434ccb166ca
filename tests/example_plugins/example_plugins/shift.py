"""A tensor to whose elements one number was added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit, PredictingEncoding, is_real, round_once, to_float64

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Chunk, TensorSource

SAMPLE = 1 << 12  # bytes
TOLERANCE = 1e-3


class Shift(PredictingEncoding):
    """Predicts ``parent + amount``. What the prediction misses is stored too, so the encoding is lossless."""

    name = "shift"
    needs = ("range",)

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Return the amount, or None if a sample shows that elements moved by different amounts."""
        import numpy as np  # here, so that finding plug-ins does not take the time of its import

        if target.spec != parent.spec or not is_real(target.spec.dtype):
            return None
        new, old = (to_float64(source.read(0, SAMPLE), target.spec.dtype) for source in (target, parent))
        if not new.size or not np.isfinite([new, old]).all():
            return None
        moved = new - old
        return Fit({"amount": float(moved[0])}) if moved[0] and np.ptp(moved) < TOLERANCE * abs(moved[0]) else None

    def predict(self, chunk: Chunk, out: memoryview) -> None:
        """Write the prediction. Bases and parameters come from a pack's header, which anybody may have written."""
        import numpy as np

        amount = chunk.params.get("amount")
        if not isinstance(amount, float) or len(chunk.bases) != 1:
            raise CorruptError("a shift without an amount or without a parent")
        parent, dtype = chunk.bases[0], chunk.spec.dtype
        if parent.spec.dtype != dtype or not is_real(dtype) or parent.data.nbytes != out.nbytes:
            raise CorruptError("a shift of a parent that does not fit")
        with np.errstate(all="ignore"):  # values may be NaN, infinite or near the largest
            out[:] = round_once(to_float64(parent.data, dtype) + amount, dtype)


ENCODING = Shift()
