"""How far apart two versions of a tensor are, and how far those of several tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Rank:
    """The effective rank of a change: how many singular values hold 99.9 % of what is no rounding error.

    Attributes:
        value: The rank, or a lower bound of it.
        exact: Whether it is not just a lower bound. High ranks are not counted, nor what rounding hides.
    """

    value: int
    exact: bool = True

    def __str__(self) -> str:
        return str(self.value) if self.exact else f"≥ {self.value}"


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance between two tensors of the same shape.

    The norms, and what is derived from these, are None for types without arithmetic. Norms are infinite or NaN if an
    element is.

    Attributes:
        elements: Number of elements.
        changed: Number of elements whose bits differ; if the element types differ, whose values do.
        norm: Euclidean norm of the difference.
        norm_old: Norm of the old tensor.
        norm_new: Norm of the new tensor.
        largest: Largest absolute difference between two elements, or two components of complex ones; None as above.
        flips: Number of elements that are negative in one tensor and positive in the other.
        nan_old: Number of NaN in the old tensor.
        nan_new: Number of NaN in the new tensor.
        infinite_old: Number of infinite values in the old tensor.
        infinite_new: Number of infinite values in the new tensor.
        rank: Of the change of a matrix; None if there is none, and for several tensors.
    """

    elements: int
    changed: int
    norm: float | None = None
    norm_old: float | None = None
    norm_new: float | None = None
    largest: float | None = None
    flips: int = 0
    nan_old: int = 0
    nan_new: int = 0
    infinite_old: int = 0
    infinite_new: int = 0
    rank: Rank | None = None

    @property
    def share(self) -> float:
        """Share of the elements whose bits differ, 0 to 1."""
        return self.changed / self.elements if self.elements else 0.0

    @property
    def relative(self) -> float | None:
        """Norm of the difference over the norm of the old tensor; infinite if the old tensor is all zero."""
        if self.norm is None or self.norm_old is None:
            return None
        if self.norm == 0:
            return 0.0
        return self.norm / self.norm_old if self.norm_old else self.norm * math.inf

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between both tensors; None if one of them is zero or not finite."""
        if not self.norm_old or not self.norm_new or self.norm is None:
            return None
        if not (math.isfinite(self.norm_old) and math.isfinite(self.norm_new)):
            return None
        # By the law of cosines, in the form that does not cancel if both tensors are nearly equal.
        apart, longer = self.norm / self.norm_old, self.norm_new / self.norm_old
        return max(-1.0, min(1.0, 1 - (apart - abs(1 - longer)) * (apart + abs(1 - longer)) / (2 * longer)))

    @property
    def nonfinite_old(self) -> int:
        """Number of NaN and infinite values in the old tensor."""
        return self.nan_old + self.infinite_old

    @property
    def nonfinite_new(self) -> int:
        """Number of NaN and infinite values in the new tensor."""
        return self.nan_new + self.infinite_new

    def to_dict(self) -> dict[str, Any]:
        """Describe it in types that ``json.dumps`` accepts; ``comparison.schema`` describes the keys."""
        return {
            "elements": self.elements,
            "changed": self.changed,
            "share": self.share,
            "relative": number(self.relative),
            "cosine": number(self.cosine),
            "largest": number(self.largest),
            "flips": self.flips,
            "norm": number(self.norm),
            "norm_old": number(self.norm_old),
            "norm_new": number(self.norm_new),
            "rank": None if self.rank is None else self.rank.value,
            "rank_exact": None if self.rank is None else self.rank.exact,
            "nonfinite_old": self.nonfinite_old,
            "nonfinite_new": self.nonfinite_new,
            "nan_old": self.nan_old,
            "nan_new": self.nan_new,
            "infinite_old": self.infinite_old,
            "infinite_new": self.infinite_new,
        }


def combined(distances: Sequence[Distance]) -> Distance | None:
    """Return the distance between all old and all new tensors, as if each were one; None if there are none.

    The norms are those of the tensors with arithmetic. There is no rank.
    """
    if not distances:
        return None
    if len(distances) == 1:
        return distances[0]
    real = [distance for distance in distances if distance.norm is not None]
    return Distance(
        sum(distance.elements for distance in distances),
        sum(distance.changed for distance in distances),
        _hypot([distance.norm for distance in real]),
        _hypot([distance.norm_old for distance in real]),
        _hypot([distance.norm_new for distance in real]),
        _largest([distance.largest for distance in real]),
        sum(distance.flips for distance in distances),
        sum(distance.nan_old for distance in distances),
        sum(distance.nan_new for distance in distances),
        sum(distance.infinite_old for distance in distances),
        sum(distance.infinite_new for distance in distances),
    )


def _hypot(norms: Sequence[float | None]) -> float | None:
    known = [norm for norm in norms if norm is not None]
    if any(math.isnan(norm) for norm in known):
        return math.nan
    return math.hypot(*known) if known else None


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if any(math.isnan(value) for value in known):
        return math.nan
    return max(known, default=None)


def number(value: float | None) -> float | str | None:
    """Return a number as JSON has it: "nan", "inf" or "-inf" if it is not finite."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
