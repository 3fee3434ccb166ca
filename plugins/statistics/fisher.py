"""The mean squared gradient of an example's loss: the diagonal of the Fisher information matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Observed


class Fisher:
    """See ``git_theta_ext.interfaces.StatisticsKind``."""

    name = "fisher"
    observes: Observed = "gradients"

    def shape(self, parameter: tuple[int, ...]) -> tuple[int, ...]:
        """Return the parameter's own shape."""
        return parameter

    def terms(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the square of one example's gradient."""
        return values.square(), 1


KIND = Fisher()
