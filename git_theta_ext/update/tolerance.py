"""Find parameters that changed so little that their previous value can be kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.model.floats import to_float64
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.model.tensor import TensorSpec


@dataclass(frozen=True)
class Tolerance:
    """How much an element may change: by ``absolute + relative * abs(previous)``.

    Raises:
        UsageError: One of them is negative or not finite.
    """

    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        for value, option in ((self.absolute, "--atol"), (self.relative, "--rtol")):
            if not math.isfinite(value) or value < 0:
                raise UsageError(f"{option} {value}: a tolerance must be a finite number and not negative")


def within(spec: TensorSpec, previous: Iterable[memoryview], value: memoryview, tolerance: Tolerance) -> bool:
    """Return whether every element of a parameter is close to its previous value.

    Compared in float64; complex numbers by their parts. NaN is close to NaN, an infinity to the same one.

    Args:
        spec: Of both.
        previous: The previous value in chunks of whole elements; read to the end only if all are close.
        value: The value now.
        tolerance: How close.

    Returns:
        Whether it is so; False for types that are neither floats nor complex numbers of whole bytes.
    """
    import numpy as np

    if not spec.dtype.arithmetic:
        return False
    at = 0
    for chunk in previous:
        old = to_float64(chunk, spec.dtype)
        new = to_float64(value[at : at + chunk.nbytes], spec.dtype)
        at += chunk.nbytes
        with np.errstate(over="ignore", invalid="ignore"):
            near = np.abs(new - old) <= tolerance.absolute + tolerance.relative * np.abs(old)
        near &= np.isfinite(new) & np.isfinite(old)
        near |= (new == old) | (np.isnan(new) & np.isnan(old))
        if not near.all():
            return False
    return True
