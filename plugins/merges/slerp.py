"""Spherical linear interpolation of two models (Shoemake, 1985, https://doi.org/10.1145/325334.325242)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._geometry import slerp
from ._sums import combined, gram, scratch

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Slerp:
    """Interpolates from our tensor to theirs along an arc; nearly parallel ones are interpolated linearly."""

    name = "slerp"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="matrix",
        arrays=True,
        options={"t": Option(0.5, 0.0, 1.0)},
        branches=(2, 2),
        scratch=scratch(0),
        reference="https://doi.org/10.1145/325334.325242",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        return combined(piece.branches, slerp(gram(piece.branches), float(piece.options["t"])))


METHOD = Slerp()
