"""MaTS: matches outputs by conjugate gradients (Tam, Bansal and Raffel, 2023, https://arxiv.org/abs/2312.04339)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._spectral import scratch
from ._statistics import grams, mean
from ._sums import dot
from ._vectors import base_of, task_vectors, total

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from git_theta_ext.interfaces import Array, Piece

INPUTS, OUTPUTS = "gram", "grad_gram"


def _numbers(rows: int, columns: int, branches: int) -> float:
    return rows * columns * (14 + 2 * branches) + 2 * branches * (rows * rows + columns * columns)


class Mats:
    """Solves ``sum A X B = sum A W B`` for every weight of a Linear by conjugate gradients.

    A is the Gram matrix of a branch's inputs, B that of the gradients of its outputs, and W its transposed weight. The
    search starts from task arithmetic, and ends after ``iterations`` steps or when the residual is smaller than
    ``tolerance`` times the right-hand side. Other parameters get the mean.
    """

    name = "mats"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"iterations": Option(100, 0, 100_000, whole=True), "tolerance": Option(1e-10, 0.0, 1.0)},
        sidecars=(INPUTS, OUTPUTS),
        exact=False,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2312.04339",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        inputs, outputs = grams(piece, INPUTS, 1), grams(piece, OUTPUTS, 0)
        if inputs is None or outputs is None:
            return mean(piece)
        sides = list(zip(inputs, outputs, strict=True))

        def image(values: torch.Tensor) -> Array:
            return total([a @ values @ b for a, b in sides])

        goal = total([a @ w.T.double() @ b for (a, b), w in zip(sides, piece.branches, strict=True)])
        start = (base_of(piece) + total(task_vectors(piece))).T.double()
        iterations, tolerance = int(piece.options["iterations"]), float(piece.options["tolerance"])
        solution: torch.Tensor = conjugate_gradients(image, goal, start, iterations, tolerance)
        return solution.T.to(piece.branches[0].dtype)


def conjugate_gradients(
    image: Callable[[torch.Tensor], torch.Tensor],
    goal: torch.Tensor,
    start: torch.Tensor,
    iterations: int,
    tolerance: float,
) -> torch.Tensor:
    """Solve ``image(X) = goal`` for a symmetric positive semidefinite linear map (Hestenes and Stiefel, 1952)."""
    solution = start.clone()
    residual = goal - image(solution)
    direction = residual.clone()
    size, enough = float(dot(residual, residual)), float(dot(goal, goal)) * tolerance**2
    for _ in range(iterations):
        if size <= enough:
            break
        mapped = image(direction)
        curvature = float(dot(direction, mapped))
        if curvature <= 0:  # no progress is possible in this direction
            break
        solution += direction * (size / curvature)
        residual -= mapped * (size / curvature)
        before, size = size, float(dot(residual, residual))
        direction = residual + direction * (size / before)
    return solution


METHOD = Mats()
