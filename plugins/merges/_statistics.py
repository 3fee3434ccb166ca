"""Statistics that methods need of every branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

from ._division import divided
from ._spectral import is_matrix

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

_HINT = "make them for every side as docs/statistics.md says"


def of_all(piece: Piece, kind: str) -> tuple[torch.Tensor, ...]:
    """Return a kind of statistics of every branch.

    Raises:
        MergeError: They are not there, or of another shape than the parameter.
    """
    found = piece.sidecars.get(kind)
    if found is None:
        raise MergeError(f"there are no {kind} statistics of this parameter on every side", hint=_HINT)
    if any(each.shape != piece.branches[0].shape for each in found):
        raise MergeError(f"the {kind} statistics have another shape than the parameter", hint=_HINT)
    return found


def grams(piece: Piece, kind: str, side: int) -> list[torch.Tensor] | None:
    """Return a kind of Gram matrices of every branch in float64, None where the parameter is no weight of a Linear.

    Args:
        piece: What is merged.
        kind: Of the statistics.
        side: The dimension of the weight that they belong to: 1 for inputs, 0 for outputs.

    Raises:
        MergeError: They do not fit the weight.
    """
    import torch

    found = piece.sidecars.get(kind)
    if found is None or not is_matrix(piece):
        return None
    size = piece.branches[0].shape[side]
    if any(each.shape != (size, size) for each in found):
        raise MergeError(f"the {kind} statistics are no matrices of {size} x {size}", hint=_HINT)
    return [each.to(torch.float64) for each in found]


def mean(piece: Piece) -> torch.Tensor:
    """Return the mean of the branches: what these methods do with all but the weights of a Linear."""
    import torch

    result = piece.branches[0].to(torch.float64, copy=True)
    for branch in piece.branches[1:]:
        result += branch
    return divided(result, len(piece.branches)).to(piece.branches[0].dtype)
