"""Gram matrices of the rows that go through a Linear."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Observed

_MATRIX = 2


class Gram:
    """See ``git_theta_ext.interfaces.StatisticsKind``.

    Args:
        name: Of the kind.
        observes: Whose rows.
        dimension: The dimension of a weight [out, in] that the rows are as long as.
    """

    def __init__(self, name: str, observes: Observed, dimension: int) -> None:
        self.name = name
        self.observes = observes
        self._dimension = dimension

    def shape(self, parameter: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of a square matrix; only matrices are weights of a Linear."""
        return (parameter[self._dimension],) * _MATRIX if len(parameter) == _MATRIX else None

    def terms(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the Gram matrix of the rows."""
        return values.T @ values, len(values)
