"""Mean square of each input of a Linear: which columns of its weight matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Observed


class InputNorm:
    """A mean of terms, one for each row of inputs."""

    name = "input_norm"
    observes: Observed = "inputs"

    def shape(self, parameter: tuple[int, ...]) -> tuple[int, ...] | None:
        """A weight [outputs, inputs] has a number for each input; other parameters have no such statistic."""
        return parameter[1:] if len(parameter) == 2 else None

    def terms(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the sum over the rows [n, inputs], and how many they are."""
        return values.square().sum(dim=0), len(values)


KIND = InputNorm()
