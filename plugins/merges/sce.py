"""SCE: select elements by variance, weigh branches by energy, erase minority signs (https://arxiv.org/abs/2408.07990)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype

from ._arrays import clear, divide, largest
from ._elect import agreeing_mean
from ._geometry import shares
from ._sums import energies, energies_scratch
from ._vectors import added, task_vectors, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece


def _numbers(shape: Sequence[int], branches: int) -> float:
    """Count the task vectors, and what the selection or the energies hold besides them."""
    elements = math.prod(shape)
    return elements * branches + max(9 * elements, energies_scratch(elements, branches))


class Sce:
    """Keeps the elements in which the branches' changes vary most, and adds the mean of those with the elected sign.

    Elements that vary at all are ranked by their variance over the branches, and the share ``density`` of them is kept
    in every tensor. In the mean, a branch has the share of its squared norm in that of all, after the selection.
    """

    name = "sce"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"density": Option(1.0, 1e-9, 1.0)},
        arrays=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2408.07990",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        if piece.options["density"] != 1:
            drops = ~_most_varied(vectors, float(piece.options["density"]))
            vectors = [clear(vector, drops) for vector in vectors]
        sizes = energies(vectors)
        parts = shares(sizes if any(sizes) else [1.0] * len(sizes))
        return added(piece, agreeing_mean(vectors, parts, parts), 1.0)


def _most_varied(vectors: list[Array], density: float) -> Array:
    """Return a mask of the share of elements with the largest variance, among those that vary."""
    xp = array_namespace(vectors[0])
    mean = divide(total([astype(vectors[0], xp.float64), *vectors[1:]]), len(vectors))
    variance = xp.zeros_like(mean)
    for vector in vectors:
        off = vector - mean
        off *= off
        variance += off
    kept = int(int(xp.count_nonzero(variance)) * density)
    return largest(variance.reshape(-1), kept).reshape(vectors[0].shape)


METHOD = Sce()
