"""Reduce the difference of two models to the signs of its largest elements (ComPEFT, arXiv 2311.13171).

The exact share of largest elements over a whole model is found in bounded memory (``git_theta_ext.util.streaming``).
"""

from __future__ import annotations

import math
from typing import IO, TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.model.floats import to_float64
from git_theta_ext.model.packed_signs import frame_signs
from git_theta_ext.records import dataclass
from git_theta_ext.util.streaming import HALF_BITS, KthLargest, Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.model.tensor import TensorSpec

_LOW = (1 << HALF_BITS) - 1


@dataclass(frozen=True)
class ComparedParameter:
    """A parameter that two models have.

    Attributes:
        name: Name of the parameter.
        spec: Element type, a real float, and shape of both values.
        chunks: Returns pairs of chunks, of the old and of the new value. It is called more than once.
    """

    name: str
    spec: TensorSpec
    chunks: Callable[[], Iterable[tuple[memoryview, memoryview]]]


@dataclass(frozen=True)
class Selection:
    """Which elements of a task vector are kept.

    Attributes:
        elements: Number of elements of the whole task vector.
        threshold: Bit pattern, as float32, of the smallest magnitude that is kept.
        ties: Number of elements of exactly that magnitude that are kept, the first ones.
        deviation: Standard deviation of the whole task vector.
    """

    elements: int
    threshold: int
    ties: int
    deviation: float


@dataclass(frozen=True)
class Fidelity:
    """How much of a parameter's task vector was kept.

    Attributes:
        elements: Number of elements.
        kept: Number of elements whose sign is kept.
        squares: Sum of the squares of all elements.
        magnitudes: Sum of the magnitudes of the kept elements.
        nbytes: Size of the encoded signs in bytes.
    """

    elements: int = 0
    kept: int = 0
    squares: float = 0.0
    magnitudes: float = 0.0
    nbytes: int = 0

    def __add__(self, other: Fidelity) -> Fidelity:
        return Fidelity(
            self.elements + other.elements,
            self.kept + other.kept,
            self.squares + other.squares,
            self.magnitudes + other.magnitudes,
            self.nbytes + other.nbytes,
        )

    def relative_error(self, scale: float) -> float:
        """Return the norm of the error of the signs times ``scale``, relative to that of the task vector."""
        missed = self.squares - 2 * scale * self.magnitudes + self.kept * scale * scale
        return math.sqrt(max(0.0, missed) / self.squares) if self.squares else 0.0

    @property
    def cosine(self) -> float:
        """Cosine between the signs and the task vector; 0 if either is zero."""
        return self.magnitudes / math.sqrt(self.squares * self.kept) if self.squares and self.kept else 0.0

    @property
    def best_scale(self) -> float:
        """The scale with the smallest error."""
        return self.magnitudes / self.kept if self.kept else 0.0

    @property
    def ideal_bits(self) -> float:
        """Entropy in bits of that number of signs at random positions."""
        share = self.kept / self.elements if self.elements else 0.0
        if share in (0.0, 1.0):
            return self.kept * 1.0
        return -self.elements * ((1 - share) * math.log2(1 - share) + share * math.log2(share / 2))


def select(parameters: Sequence[ComparedParameter], density: float) -> Selection:
    """Find the largest elements of a task vector, exactly. All values are read twice.

    Magnitudes are compared as float32. Unchanged elements are never kept, so fewer may be kept.

    Args:
        parameters: All parameters.
        density: The share of elements to keep, above 0 and at most 1.

    Raises:
        FormatError: A value is NaN or infinite; the message names the parameter.
    """
    import numpy as np

    upper = np.zeros(1 << HALF_BITS, np.int64)
    moments = Moments()
    for parameter in parameters:
        for delta in _deltas(parameter):
            upper += np.bincount(_patterns(delta) >> HALF_BITS, minlength=upper.size)
            moments.add(delta)
    search = KthLargest(max(1, round(density * moments.count)))
    search.narrow(upper)
    lower = np.zeros(1 << HALF_BITS, np.int64)
    for parameter in parameters:
        for delta in _deltas(parameter):
            patterns = _patterns(delta)
            lower += np.bincount(patterns[patterns >> HALF_BITS == search.bin] & _LOW, minlength=lower.size)
    return Selection(moments.count, *search.find(lower), moments.deviation)


def write_signs(parameters: Sequence[ComparedParameter], selection: Selection, file: IO[bytes]) -> dict[str, Fidelity]:
    """Write the signs of a task vector's selected elements, one parameter after another.

    Args:
        parameters: All parameters, in the order in which ``select`` got them.
        selection: The result of ``select``.
        file: The file to write. Nothing is written for a parameter without selected elements.

    Returns:
        How much of each parameter was kept.
    """
    left = selection.ties
    results: dict[str, Fidelity] = {}
    for parameter in parameters:
        fidelity = Fidelity()
        frames: list[bytes] = []
        for delta in _deltas(parameter):
            signs, left = _signs(delta, selection.threshold, left)
            kept = signs != 0
            frames.append(frame_signs(signs))
            fidelity += Fidelity(
                delta.size,
                int(kept.sum()),
                float((delta**2).sum()),
                float(abs(delta[kept]).sum()),
                len(frames[-1]),
            )
        if fidelity.kept:
            file.writelines(frames)
        results[parameter.name] = fidelity if fidelity.kept else Fidelity(fidelity.elements, 0, fidelity.squares)
    return results


def _signs(delta: NDArray[np.float64], threshold: int, ties: int) -> tuple[NDArray[np.int8], int]:
    """Return the signs of a chunk's kept elements, and how many ties may be kept in later chunks."""
    import numpy as np

    patterns = _patterns(delta)
    kept = patterns > threshold
    equal = np.flatnonzero(patterns == threshold)[:ties] if threshold else np.zeros(0, np.int64)
    kept[equal] = True
    return np.where(kept, np.sign(delta), 0).astype(np.int8), ties - equal.size


def _deltas(parameter: ComparedParameter) -> Iterator[NDArray[np.float64]]:
    import numpy as np

    for old, new in parameter.chunks():
        with np.errstate(invalid="ignore", over="ignore"):
            delta = to_float64(new, parameter.spec.dtype) - to_float64(old, parameter.spec.dtype)
        if not np.isfinite(delta).all():
            raise FormatError(f"parameter {parameter.name!r} has NaN or infinite values")
        yield delta


def _patterns(delta: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np

    with np.errstate(over="ignore", under="ignore"):
        return np.abs(delta).astype(np.float32).view(np.uint32).astype(np.int64)
