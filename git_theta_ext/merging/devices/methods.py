"""Call merge methods with what they take: arrays of numpy, or tensors of torch that share their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces.merges import Elected, Pair
from git_theta_ext.records import replace
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import torch

    from git_theta_ext.interfaces import Array, MergeContract, MergeMethod, PairMethod, Piece


def require_torch(contracts: Iterable[MergeContract]) -> None:
    """Import torch if a method takes nothing else.

    Raises:
        LibraryError: It is not installed.
    """
    if not all(contract.arrays for contract in contracts):
        require("torch", "a merge method")


def import_libraries(contracts: Sequence[MergeContract]) -> None:
    """Import what methods compute with, so that it does not count in the time of a merge that is measured.

    Raises:
        LibraryError: Torch is not installed.
    """
    require_torch(contracts)
    if not all(contract.fused and not contract.trims for contract in contracts):  # kernels do without numpy
        require("numpy", "a merge method")


def have_matrices(contracts: Iterable[MergeContract]) -> bool:
    """Return whether a method multiplies or decomposes matrices, which takes longer than moving them to a device."""
    return not all(contract.exact for contract in contracts)


def merge_by(method: MergeMethod, piece: Piece) -> Array | Elected:
    """Merge a piece by a method; see ``git_theta_ext.interfaces.MergeMethod``."""
    import numpy as np

    if not isinstance(piece.branches[0], np.ndarray):
        return method(piece)
    if method.contract.arrays:
        # Arithmetic on arrays of no dimension gives numbers, which cannot be modified.
        shape = piece.branches[0].shape
        merged = method(piece if shape else _mapped(piece, np.atleast_1d))
        return merged if shape else _mapped_result(merged, lambda array: array.reshape(()))
    from torch import from_numpy

    return _mapped_result(method(_mapped(piece, from_numpy)), _array)


def merge_pairs_by(
    method: PairMethod, pairs: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
) -> tuple[Pair, float]:
    """Merge the factors of LoRAs by a method; see ``git_theta_ext.interfaces.PairMethod``."""
    import numpy as np

    if method.contract.arrays or not isinstance(pairs[0].a, np.ndarray):
        return method(pairs, weights, options)
    from torch import from_numpy

    merged, lost = method([Pair(from_numpy(p.a), from_numpy(p.b), p.scale) for p in pairs], weights, options)
    return Pair(_array(merged.a), _array(merged.b), merged.scale), lost


def _mapped(piece: Piece, function: Callable[[Array], Array]) -> Piece:
    return replace(
        piece,
        base=None if piece.base is None else function(piece.base),
        branches=tuple(map(function, piece.branches)),
        sidecars={kind: tuple(map(function, arrays)) for kind, arrays in piece.sidecars.items()},
    )


def _mapped_result(merged: Array | Elected, function: Callable[[Array], Array]) -> Array | Elected:
    return replace(merged, value=function(merged.value)) if isinstance(merged, Elected) else function(merged)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy()
