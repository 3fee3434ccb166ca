"""The conflicts that a merge leaves in a manifest."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from git_theta_ext.model.conflict_reasons import Reason
    from git_theta_ext.model.manifest import Parameter, Skeleton

MOST_SIDES = 64
"""The limit of sides in a merge."""

_TWO = 2


@lru_cache(maxsize=MOST_SIDES)
def side_names(count: int) -> tuple[str, ...]:
    """Return the names of the sides of a merge: ``ours`` and ``theirs``; or ``ours``, ``theirs1``, ``theirs2`` etc."""
    return ("ours", "theirs") if count <= _TWO else ("ours", *(f"theirs{n}" for n in range(1, count)))


@dataclass(frozen=True, slots=True)
class Conflict:
    """A parameter in conflict, with its candidates; None for a side that does not have the parameter.

    Attributes:
        name: Name of the parameter.
        reason: The reason of the conflict.
        base: The common ancestor's value.
        sides: Our value, and those of the merged branches; at least two.
    """

    name: str
    reason: Reason
    base: Parameter | None
    sides: tuple[Parameter | None, ...]

    @property
    def ours(self) -> Parameter | None:
        """The current branch's value."""
        return self.sides[0]

    @property
    def candidates(self) -> dict[str, Parameter | None]:
        """The values by the names of their sides, ``base`` first."""
        return {"base": self.base, **dict(zip(side_names(len(self.sides)), self.sides, strict=True))}


@dataclass(frozen=True, slots=True)
class LayoutConflict:
    """A conflict about the order of parameters, the literal bytes or the format of the file; see ``Conflict``."""

    reason: Reason
    base: Skeleton | None
    sides: tuple[Skeleton, ...]

    @property
    def candidates(self) -> dict[str, Skeleton | None]:
        """The layouts by the names of their sides, ``base`` first."""
        return {"base": self.base, **dict(zip(side_names(len(self.sides)), self.sides, strict=True))}
