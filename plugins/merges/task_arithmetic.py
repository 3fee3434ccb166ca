"""Base plus lambda times the weighted sum of task vectors (Ilharco et al., 2023, https://arxiv.org/abs/2212.04089)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Fusion, MergeContract, array_namespace, pieces

from ._integers import check_sum
from ._vectors import LAMBDA, added, base_of, task_vectors, total, weighted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Array, Piece


def _integer_obstacle(options: Mapping[str, float | str], weights: Sequence[float]) -> str:
    plain = {float(options["lambda"]), *weights} == {1.0}
    return "" if plain else "integer parameters take no weights, and lambda must be 1"


class TaskArithmetic:
    """Adds the changes of all branches to the base, in the order of the branches; also for integer counters."""

    name = "task_arithmetic"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        options={"lambda": LAMBDA},
        weighted=True,
        negative_weights=True,
        arrays=True,
        integers=True,
        integer_obstacle=_integer_obstacle,
        scratch=pieces(0, 1),
        reference="https://arxiv.org/abs/2212.04089",
        fused=lambda options: Fusion("sum", float(options["lambda"])),
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        scale = float(piece.options["lambda"])
        if vectors[0].dtype == array_namespace(vectors[0]).int64:
            if why := _integer_obstacle(piece.options, piece.weights):
                raise MergeError(why)
            check_sum([(1 - len(vectors), base_of(piece)), *((1, branch) for branch in piece.branches)])
        return added(piece, total(weighted(vectors, piece.weights)), scale)


METHOD = TaskArithmetic()
