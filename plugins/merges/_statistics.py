"""Access to the statistics of all branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import array_namespace, astype

from ._arrays import divide
from ._spectral import is_matrix

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

_HINT = "git theta stats collect CHECKPOINT --with MODULE:FUNCTION for every side"


def of_all(piece: Piece, kind: str) -> tuple[Array, ...]:
    """Return one kind of statistics of every branch.

    Raises:
        MergeError: A branch has none, or their shape is not that of the parameter.
    """
    tensors = piece.sidecars.get(kind)
    if tensors is None:
        raise MergeError(f"not every side has {kind} statistics of this parameter", hint=_HINT)
    if any(tensor.shape != piece.branches[0].shape for tensor in tensors):
        raise MergeError(f"the shape of the {kind} statistics is not that of the parameter", hint=_HINT)
    return tensors


def grams(piece: Piece, kind: str, side: int) -> list[Array] | None:
    """Return one kind of Gram matrices of every branch in float64; None if the parameter is not the weight of a Linear.

    Args:
        piece: The piece that is merged.
        kind: The kind of statistics.
        side: The dimension of the weight that they belong to: 1 for inputs, 0 for outputs.

    Raises:
        MergeError: Their size does not match the weight.
    """
    tensors = piece.sidecars.get(kind)
    if tensors is None or not is_matrix(piece):
        return None
    size = piece.branches[0].shape[side]
    if any(tensor.shape != (size, size) for tensor in tensors):
        raise MergeError(f"the {kind} statistics are not {size} x {size} matrices", hint=_HINT)
    return [astype(tensor, array_namespace(tensor).float64) for tensor in tensors]


def mean(piece: Piece) -> Array:
    """Return the mean of the branches, which these methods use for all parameters but the weights of a Linear."""
    result = astype(piece.branches[0], array_namespace(piece.branches[0]).float64)
    for branch in piece.branches[1:]:
        result += branch
    return astype(divide(result, len(piece.branches)), piece.branches[0].dtype)
