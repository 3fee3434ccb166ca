"""Model breadcrumbs: drop outliers and noise (Davari and Belilovsky, 2023, https://arxiv.org/abs/2312.06795)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, pieces

from ._vectors import LAMBDA, added, task_vectors, total, weighted

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class Breadcrumbs:
    """Drops the largest and the smallest changes of every tensor, and adds the others."""

    name = "breadcrumbs"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"density": Option(0.9, 1e-9, 1.0), "gamma": Option(0.01, 0.0, 1.0), "lambda": LAMBDA},
        weighted=True,
        scratch=pieces(7, 1),
        reference="https://arxiv.org/abs/2312.06795",
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        density, gamma = (float(piece.options[name]) for name in ("density", "gamma"))
        vectors = [masked(vector, density, gamma) for vector in task_vectors(piece)]
        return added(piece, total(weighted(vectors, piece.weights)), float(piece.options["lambda"]))


def masked(vector: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    """Keep a share of the elements: the largest ones after dropping another share, of the largest of all.

    If the two shares exceed all elements, fewer of the largest are dropped. Equal elements rank by their index.
    """
    import torch

    count = vector.numel()
    kept = int(density * count)
    first = min(int(gamma * count), count - kept)
    order = vector.abs().reshape(-1).argsort(descending=True, stable=True)
    mask = torch.zeros(count, dtype=torch.bool, device=vector.device)
    mask[order[first : first + kept]] = True
    return vector.masked_fill_(~mask.reshape(vector.shape), 0.0)


METHOD = Breadcrumbs()
