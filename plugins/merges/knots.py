"""KnOTS: TIES in the common singular basis (Stoica et al., 2024, https://arxiv.org/abs/2410.19735)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._elect import elect
from ._spectral import factors, is_matrix, noise, rank, scratch, svd
from ._vectors import LAMBDA, added, mean_change, task_vectors, weighted

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Array, Piece


def _numbers(rows: int, columns: int, branches: int) -> float:
    """Count the concatenated task matrices, their factors, and the parts of the right factor while they are merged."""
    rank, wide = min(rows, branches * columns), branches * columns
    return 4 * rows * wide + 2 * factors(rows, wide) + 4 * rank * wide + 14 * rank * columns


class Knots:
    """Decomposes the concatenated task matrices, and merges their parts of the right factor as TIES does.

    Each branch's part is trimmed to its largest magnitudes, including equal ones. Signs that cancel out are decided by
    the majority of the matrix. Other shapes get the mean of the task vectors.
    """

    name = "knots"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"density": Option(0.2, 1e-9, 1.0), "lambda": LAMBDA},
        weighted=True,
        exact=False,
        version=2,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2410.19735",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        if not is_matrix(piece):
            return mean_change(piece)
        vectors = task_vectors(piece)
        matrix = torch.cat(vectors, dim=1)
        u, s, vt = svd(matrix)
        number = max(1, rank(s, matrix.shape))
        # Rounding errors have a sign too, with which other values would agree or not, so they become zero. Rounding to
        # the type of the branches makes values equal or opposite that only the decomposition's rounding set apart.
        vt = vt[:number].masked_fill(vt[:number].abs() <= noise(s[:number, None], matrix.shape), 0.0)
        sides = torch.split(vt.to(matrix.dtype), vectors[0].shape[1], dim=1)
        parts = [_trimmed(side, float(piece.options["density"])) * s[:number, None] for side in sides]
        parts = weighted(parts, piece.weights)
        elected = elect(parts, piece.weights, 1)
        if int(elected.ties) and int(elected.votes) <= 0:
            elected = elect(parts, piece.weights, -1)
        change = (u[:, :number] @ elected.value).to(matrix.dtype)
        return added(piece, change, float(piece.options["lambda"]))


def _trimmed(values: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the share of largest magnitudes, and those equal to the smallest of them; others become zero."""
    sizes = values.abs()
    keep = int(sizes.numel() * density) + 1
    least = sizes.reshape(-1).kthvalue(max(1, sizes.numel() - keep + 1)).values
    return values.masked_fill(sizes < least, 0.0)


METHOD = Knots()
