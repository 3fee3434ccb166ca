"""Model stock: between base and mean, by the angle (Jang et al., 2024, https://arxiv.org/abs/2403.19522)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MAX_BRANCHES, MergeContract

from ._geometry import cosines
from ._sums import combined, gram, scratch
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

_OPPOSED = 1e-8
"""If the divisor is not larger, the branches cancel each other out, and the result is the base."""


class ModelStock:
    """Interpolates between the base and the mean of the branches, by the mean cosine c between their task vectors.

    The mean of n branches has the weight n c / (1 + (n - 1) c), limited to values from 0 to 1.
    """

    name = "model_stock"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        arrays=True,
        branches=(2, MAX_BRANCHES),
        scratch=scratch(1),
        reference="https://arxiv.org/abs/2403.19522",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        count = len(vectors)
        _, angles = cosines(gram(vectors))
        cosine = sum(angles[i][j] for i, j in combinations(range(count), 2)) / (count * (count - 1) / 2)
        below = 1 + (count - 1) * cosine
        share = min(1.0, max(0.0, count * cosine / below)) if below > _OPPOSED else 0.0
        return added(piece, combined(vectors, [share / count] * count), 1.0)


METHOD = ModelStock()
