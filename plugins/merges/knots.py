"""KnOTS: align task matrices by their common decomposition (Stoica et al., 2024, https://arxiv.org/abs/2410.19735)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._elect import elect
from ._spectral import is_matrix, svd
from ._vectors import LAMBDA, added, mean_change, task_vectors, weighted

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class Knots:
    """Decomposes the task matrices side by side and merges their parts of the right factor as TIES does.

    Each branch's part is trimmed to its largest magnitudes; equal ones stay. Other shapes get the mean of the task
    vectors.
    """

    name = "knots"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"density": Option(0.2, 1e-9, 1.0), "lambda": LAMBDA},
        weighted=True,
        exact=False,
        reference="https://arxiv.org/abs/2410.19735",
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        if not is_matrix(piece):
            return mean_change(piece)
        vectors = task_vectors(piece)
        u, s, vt = svd(torch.cat(vectors, dim=1))
        parts = []
        width = vectors[0].shape[1]
        for first in range(0, vt.shape[1], width):
            part = vt[:, first : first + width]
            size = part.abs().reshape(-1)
            keep = min(size.numel(), int(size.numel() * float(piece.options["density"])) + 1)
            least = size.kthvalue(size.numel() - keep + 1).values
            parts.append((part * s[:, None]).masked_fill_(part.abs() < least, 0.0))
        found = elect(weighted(parts, piece.weights), piece.weights, piece.majority)
        return added(piece, (u @ found.value).to(vectors[0].dtype), float(piece.options["lambda"]))


METHOD = Knots()
