"""NearSwap: our values, moved towards theirs by at most t (https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, pieces

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class NearSwap:
    """Interpolates from each of our values a to theirs b by t / abs(a - b), or takes b if they are nearer than t.

    This limits b to the numbers from a - t to a + t.
    """

    name = "nearswap"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        options={"t": Option(1e-4, 0.0, 100.0)},
        branches=(2, 2),
        arrays=True,
        scratch=pieces(2),
        reference="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        xp = array_namespace(piece.branches[0])
        ours, theirs = piece.branches
        limit = float(piece.options["t"])
        return xp.maximum(xp.minimum(theirs, ours + limit), ours - limit)


METHOD = NearSwap()
