"""Consensus task arithmetic: keep what matters to k branches (Wang et al., 2024, https://arxiv.org/abs/2405.07813)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MAX_BRANCHES, MergeContract, Option, array_namespace, pieces

from ._arrays import clear
from ._vectors import added, task_vectors, total, weighted

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class ConsensusTaskArithmetic:
    """Adds the changes of elements that matter to at least k branches.

    An element matters to a branch if its change is larger than lambda times the sum of all other changes.
    """

    name = "consensus_ta"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        options={
            "k": Option(2, 0, MAX_BRANCHES, whole=True),
            "lambda": Option(0.4, 0.0, 100.0),
            "alpha": Option(1.0, -100.0, 100.0),
        },
        weighted=True,
        arrays=True,
        scratch=pieces(4, 1),
        reference="https://arxiv.org/abs/2405.07813",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        xp = array_namespace(piece.branches[0])
        vectors = weighted(task_vectors(piece), piece.weights)
        change = total(vectors)
        users = xp.zeros_like(change, dtype=xp.int32)
        for vector in vectors:
            users += abs(vector) > abs(change - vector) * float(piece.options["lambda"])
        return added(piece, clear(change, users < int(piece.options["k"])), float(piece.options["alpha"]))


METHOD = ConsensusTaskArithmetic()
