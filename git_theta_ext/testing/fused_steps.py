"""Merge a piece by the fused steps of a method and by its arrays, to compare the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.merge_kernels import MEAN, merge_elements
from git_theta_ext.interfaces import Elected, dtype
from git_theta_ext.merging.devices.methods import merge_by
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from git_theta_ext.interfaces import MergeMethod, Piece


def with_arrays(piece: Piece) -> Piece:
    """Return a piece with arrays of numpy that share the memory of its tensors."""
    return replace(
        piece,
        base=None if piece.base is None else piece.base.numpy(),
        branches=tuple(branch.numpy() for branch in piece.branches),
        sidecars={kind: tuple(tensor.numpy() for tensor in tensors) for kind, tensors in piece.sidecars.items()},
    )


def merged_by_steps(method: MergeMethod, piece: Piece) -> tuple[bytes, int, int]:
    """Return the bytes of a piece of float32 arrays, merged by the kernel, with the votes and ties of an election."""
    fused, kind = method.contract.fused, dtype("F32")
    assert fused is not None
    steps, room = fused(piece.options), bytearray(piece.branches[0].nbytes)
    values = [*([] if steps.combine == MEAN else [piece.base]), *piece.branches]
    (election,) = merge_elements(
        [values],
        [kind] * len(values),
        [room],
        kind,
        combine=steps.combine,
        weights=piece.weights,
        trims=[trim.bits for trim in piece.trims],
        keys=[piece.keys],
        start=piece.start,
        kept=steps.kept,
        scale=steps.scale,
        majority=piece.majority,
    )
    assert election is not None
    return bytes(room), *(election if method.contract.trims else (0, 0))


def merged_by_arrays(method: MergeMethod, piece: Piece) -> tuple[bytes, int, int]:
    """Return the same, merged by the method itself."""
    merged = merge_by(method, piece)
    if isinstance(merged, Elected):
        return merged.value.tobytes(), int(merged.votes), int(merged.ties)
    return merged.tobytes(), 0, 0
