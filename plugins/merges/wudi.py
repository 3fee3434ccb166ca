"""WUDI: a task vector that disturbs no branch's, by gradient descent without data (https://arxiv.org/abs/2503.08099)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype

from ._spectral import is_matrix, scratch
from ._sums import energies, energies_scratch
from ._vectors import LAMBDA, added, mean_change, task_vectors, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece

_FIRST, _SECOND, _SMALL = 0.9, 0.999, 1e-8
"""Adam's defaults (Kingma and Ba, 2014, https://arxiv.org/abs/1412.6980)."""


def _numbers(rows: int, columns: int, branches: int) -> float:
    elements, square = rows * columns, columns * columns
    return elements * branches + max(13 * elements + 6 * square, energies_scratch(elements, branches) + 3 * elements)


class Wudi:
    """Descends from the sum of the task matrices to a matrix T that interferes little with each of them.

    The loss is the sum over the branches of the squared norm of (T - Tᵢ) Tᵢᵀ over that of Tᵢ: the rows of a task matrix
    stand for the inputs of its branch. Adam takes ``iterations`` steps of the size ``step``. Other shapes get the mean
    of the task vectors.
    """

    name = "wudi"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"iterations": Option(300, 0, 3000, whole=True), "step": Option(1e-5, 0.0, 1.0), "lambda": LAMBDA},
        exact=False,
        arrays=True,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2503.08099",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        if not is_matrix(piece):
            return mean_change(piece)
        vectors = task_vectors(piece)
        covariance, goal = _interference(vectors)
        start = total([astype(vectors[0], array_namespace(vectors[0]).float64), *vectors[1:]])
        change = _descended(start, covariance, goal, int(piece.options["iterations"]), float(piece.options["step"]))
        return added(piece, astype(change, piece.branches[0].dtype), float(piece.options["lambda"]))


def _interference(vectors: Sequence[Array]) -> tuple[Array, Array]:
    """Return the matrices of the loss, of which half the gradient is ``T @ covariance - goal``."""
    xp = array_namespace(vectors[0])
    goal = xp.zeros_like(vectors[0], dtype=xp.float64)
    covariance = goal[:1].T @ goal[:1]
    for vector, energy in zip(vectors, energies(vectors), strict=True):
        if energy:
            wide = astype(vector, xp.float64)
            own = wide.T @ wide
            own /= energy
            covariance += own
            goal += wide @ own
    return covariance, goal


def _descended(point: Array, covariance: Array, goal: Array, iterations: int, step: float) -> Array:
    """Minimise a quadratic function with the gradient ``2 (point @ covariance - goal)`` by Adam, in place."""
    xp = array_namespace(point)
    first, second = xp.zeros_like(point), xp.zeros_like(point)
    for number in range(1, iterations + 1):
        gradient = point @ covariance
        gradient -= goal
        gradient *= 2
        first *= _FIRST
        first += gradient * (1 - _FIRST)
        gradient *= gradient
        second *= _SECOND
        second += gradient * (1 - _SECOND)
        xp.sqrt(second, out=gradient)
        gradient /= (1 - _SECOND**number) ** 0.5
        gradient += _SMALL
        point -= first * (step / (1 - _FIRST**number)) / gradient
    return point


METHOD = Wudi()
