"""The mean of the branches.

Model soups (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482), with equal weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

_PAIR = 2


class Average:
    """Elementwise mean: the sum of the branches over their number."""

    name = "average"
    contract = MergeContract(needs_base=False, symmetric=True, reference="https://arxiv.org/abs/2203.05482")

    def __call__(
        self,
        base: torch.Tensor | None,  # noqa: ARG002 - the contract of merge methods
        branches: Sequence[torch.Tensor],
        params: Mapping[str, float],  # noqa: ARG002 - the contract of merge methods
    ) -> torch.Tensor:
        """Return the mean of the branches.

        It is summed in float64: the mean of n equal values is then that value, and float32 sums do not overflow. From
        three branches on, the values of each element are added in ascending order, so that the order of the branches
        does not matter.

        Args:
            base: Not looked at.
            branches: One or more tensors of one shape and element type.
            params: Not looked at.

        Returns:
            A tensor of that shape and type.
        """
        import torch

        ordered = branches if len(branches) <= _PAIR else torch.stack(tuple(branches)).sort(dim=0).values.unbind()
        total = ordered[0].to(torch.float64, copy=True)
        for branch in ordered[1:]:
            total += branch
        return total.div_(len(branches)).to(branches[0].dtype)


METHOD = Average()
