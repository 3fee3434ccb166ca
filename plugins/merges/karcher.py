"""Riemannian mean of the models on a sphere (Karcher, 1977, https://doi.org/10.1002/cpa.3160300502)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._geometry import karcher_mean
from ._sums import combined, gram, scratch

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Karcher:
    """Finds the direction from which the arcs to all branches add up to zero, with the mean of their norms."""

    name = "karcher"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="matrix",
        arrays=True,
        weighted=True,
        options={"iterations": Option(10, 0, 1000, whole=True), "tolerance": Option(1e-5, 0.0, 1.0)},
        scratch=scratch(0),
        reference="https://doi.org/10.1002/cpa.3160300502",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        iterations, tolerance = int(piece.options["iterations"]), float(piece.options["tolerance"])
        factors = karcher_mean(gram(piece.branches), piece.weights, iterations, tolerance)
        return combined(piece.branches, factors)


METHOD = Karcher()
