"""Collect what merge methods need besides values: the interface of kinds of statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

Observed = Literal["gradients", "inputs", "output_gradients"]
"""What a kind of statistics is computed from: gradients of a parameter, or what goes through a Linear."""


class StatisticsKind(Protocol):
    """A mean over the examples that a model is run on, one tensor for each parameter.

    Attributes:
        name: The kind in names of statistics: ``fisher/encoder.weight`` is of the kind ``fisher``.
        observes: What it is computed from: ``gradients`` of an example's loss by a parameter; ``inputs`` of a Linear;
            or ``output_gradients``, those of an example's loss by the outputs of a Linear. The last two are observed
            for the weights of Linear layers only.
    """

    name: str
    observes: Observed

    def shape(self, parameter: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of the statistic of a parameter, given the parameter's shape; None if it has none."""
        ...

    def terms(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the sum of the terms in what was observed, and how many they are.

        The statistic is the sum of all terms divided by their number.

        Args:
            values: Float32, not to be modified: a gradient of the parameter's shape, or rows [n, features] of the
                inputs or outputs of a Linear, a row for each token of each example.

        Returns:
            A new float32 tensor of the shape that ``shape`` returns, and the number of terms.
        """
        ...
