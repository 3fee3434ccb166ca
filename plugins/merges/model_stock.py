"""Model stock: how near to the base the mean is best (Jang et al., 2024, https://arxiv.org/abs/2403.19522)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MAX_BRANCHES, MergeContract

from ._sums import dot, norm
from ._vectors import added, task_vectors, total

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

_TINY = 1e-8


class ModelStock:
    """Interpolates between the base and the mean of the branches, by the mean cosine c between their task vectors.

    The mean of n branches counts n c / (1 + (n - 1) c), held between 0 and 1.
    """

    name = "model_stock"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        branches=(2, MAX_BRANCHES),
        reference="https://arxiv.org/abs/2403.19522",
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        sizes = [float(norm(vector)) for vector in vectors]
        cosines = [
            float(dot(vectors[i], vectors[j])) / max(sizes[i] * sizes[j], _TINY * _TINY)
            for i, j in combinations(range(len(vectors)), 2)
        ]
        cosine = min(1.0, max(-1.0, sum(cosines) / len(cosines)))
        count = len(vectors)
        below = 1 + (count - 1) * cosine
        share = min(1.0, max(0.0, count * cosine / below)) if below > _TINY else 0.0
        return added(piece, total(vectors), share / count)


METHOD = ModelStock()
