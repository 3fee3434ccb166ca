"""TIES: trim, elect signs, merge (Yadav et al., 2023, https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Elected, Fusion, MergeContract, Option, pieces

from . import _trim
from ._elect import COUNT, MASS, elect
from ._vectors import LAMBDA, added, task_vectors, weighted

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Piece


class Ties:
    """Keeps the largest changes of each branch, elects a sign for every element, and adds the mean of those that agree.

    As in the paper's code, the largest changes are found over the whole model, and a branch keeps more of them if
    magnitudes are equal. ``scope`` and ``ties`` select the behaviour of other implementations.
    """

    name = "ties"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        options={**_trim.OPTIONS, "lambda": LAMBDA, "majority": Option(MASS, choices=(MASS, COUNT))},
        weighted=True,
        arrays=True,
        trims=True,
        scratch=pieces(6, 1),
        reference="https://arxiv.org/abs/2306.01708",
        fused=lambda options: Fusion(MASS if options["majority"] == MASS else COUNT, float(options["lambda"])),
    )

    def __call__(self, piece: Piece) -> Elected:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = [_trim.trim(v, threshold) for v, threshold in zip(task_vectors(piece), piece.trims, strict=True)]
        vectors = weighted(vectors, piece.weights)
        elected = elect(vectors, piece.weights, piece.majority, str(piece.options["majority"]))
        return Elected(added(piece, elected.value, float(piece.options["lambda"])), elected.votes, elected.ties)


METHOD = Ties()
