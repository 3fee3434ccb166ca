"""Compare the updates that two versions of a LoRA make, from their factors.

The update of a weight is ``scale * B @ A``. Its singular values are those of the small matrix ``R_B @ R_A.T``, if
``R_B`` and ``R_A`` are the triangular factors of B and of the transposed A (QR decomposition). The difference of two
updates is the product of the stacked factors ``[-B_old, B_new] @ [A_old; A_new]``. So no matrix of the size of the
weight is formed.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.distance import Distance, Rank, number
from git_theta_ext.model.floats import is_real, to_float
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

MOST_BYTES = 1 << 27
"""Factors that are larger are not compared."""

_BLOCK = 1 << 19
_MOST_RANK = 1024
_MOST_ENERGY = 0.999
_MATRIX = 2


@dataclass(frozen=True)
class Factors:
    """The factors of a LoRA.

    Attributes:
        first_spec: Element type and shape of A: rank, then the inputs.
        second_spec: Element type and shape of B: the outputs, then the rank, then kernel sizes of 1.
        first: The little-endian bytes of A.
        second: The little-endian bytes of B.
        alpha: The alpha of the LoRA; None if it is unknown.
        scale: The factor by which the product is multiplied; None if it is unknown.
    """

    first_spec: TensorSpec
    second_spec: TensorSpec
    first: Buffer
    second: Buffer
    alpha: float | None = None
    scale: float | None = None

    @property
    def rank(self) -> int:
        """The number of rows of A, and of columns of B."""
        return self.first_spec.shape[0]


@dataclass(frozen=True, slots=True)
class LoraUpdate:
    """The update that one version of a LoRA makes.

    Attributes:
        rank: The rank of its factors.
        alpha: Its alpha; None if it is unknown.
        scale: The factor by which the product is multiplied; None if it is unknown.
        norm: Frobenius norm of the update; that of the product alone if ``scale`` is unknown.
    """

    rank: int
    alpha: float | None
    scale: float | None
    norm: float

    def to_dict(self) -> dict[str, Any]:
        """Describe it in types that ``json.dumps`` accepts."""
        return {"rank": self.rank, "alpha": number(self.alpha), "scale": number(self.scale), "norm": number(self.norm)}


@dataclass(frozen=True, slots=True)
class LoraChange:
    """The difference between the updates of two versions of a LoRA.

    Attributes:
        old: The earlier version; None if there is none.
        new: The later version; None if there is none.
        norm: Frobenius norm of the difference.
        rank: Rank of the difference; None if an element is NaN or infinite.
        energy_rank: Least number of singular values with 99.9 % of the squared norm of the difference; None as above.
    """

    old: LoraUpdate | None
    new: LoraUpdate | None
    norm: float
    rank: int | None
    energy_rank: int | None

    @property
    def relative(self) -> float | None:
        """Norm of the difference over the norm of the old update; None if there is no old or no new update."""
        if self.old is None or self.new is None:
            return None
        if self.norm == 0:
            return 0.0
        return self.norm / self.old.norm if self.old.norm else self.norm * math.inf

    @property
    def scaled(self) -> bool:
        """Whether all norms are those of scaled updates."""
        return all(update is None or update.scale is not None for update in (self.old, self.new))

    @property
    def rescaling(self) -> list[str]:
        """How alpha and scale differ, for people."""
        if self.old is None or self.new is None:
            return []
        pairs = (("alpha", self.old.alpha, self.new.alpha), ("scale", self.old.scale, self.new.scale))
        known = ((word, old, new) for word, old, new in pairs if old is not None and new is not None)
        return [f"{word} {old:g} -> {new:g}" for word, old, new in known if old != new]

    def distance(self, of_factors: Distance | None) -> Distance | None:
        """Return the distance between both updates; None if there is no old or no new update.

        Args:
            of_factors: The distance between the factors, for what is counted by element.
        """
        if self.old is None or self.new is None:
            return None
        counts = replace(of_factors or Distance(0, 0), largest=None, flips=0)
        rank = None if self.energy_rank is None else Rank(self.energy_rank)
        return replace(counts, norm=self.norm, norm_old=self.old.norm, norm_new=self.new.norm, rank=rank)

    def to_dict(self) -> dict[str, Any]:
        """Describe it in types that ``json.dumps`` accepts; ``comparison.schema`` describes the keys."""
        sides = {"old": self.old, "new": self.new}
        return {
            **{name: None if side is None else side.to_dict() for name, side in sides.items()},
            "norm": number(self.norm),
            "relative": number(self.relative),
            "rank": self.rank,
            "energy_rank": self.energy_rank,
        }


def are_factors(first: TensorSpec, second: TensorSpec) -> bool:
    """Return whether two tensors are factors whose product can be compared."""
    return (
        all(is_real(spec.dtype) and not spec.dtype.bits % 8 and len(spec.shape) >= _MATRIX for spec in (first, second))
        and first.shape[0] == second.shape[1]
        and 0 < first.shape[0] <= _MOST_RANK
        and all(size == 1 for size in second.shape[2:])
        and 0 < first.nbytes <= MOST_BYTES
        and 0 < second.nbytes <= MOST_BYTES
    )


def compare_updates(old: Factors | None, new: Factors | None) -> LoraChange | None:
    """Compare the updates of two versions of a LoRA; None if these are updates of weights of different shapes.

    If the scale of a version is unknown, the products are compared without scales.

    Args:
        old: The earlier version, or None.
        new: The later version, or None.
    """
    both = [side for side in (old, new) if side is not None]
    if len({(math.prod(side.first_spec.shape[1:]), side.second_spec.shape[0]) for side in both}) != 1:
        return None
    known = all(side.scale is not None for side in both)
    scales = [side.scale if known and side.scale is not None else 1.0 for side in both]
    # The triangular factor of stacked matrices has, in its columns, those of each matrix.
    outer, inner = _triangle(_outputs(both)), _triangle(_inputs(both))
    bounds = [0, both[0].rank, sum(side.rank for side in both)]
    parts = [slice(*pair) for pair in pairwise(bounds)][: len(both)]
    norms = [abs(scale) * _norm(_product(outer[:, p], inner[:, p])) for scale, p in zip(scales, parts, strict=True)]
    for side, part, scale in zip(both, parts, scales, strict=True):
        outer[:, part] *= scale if side is both[-1] else -scale
    updates = iter(
        LoraUpdate(side.rank, side.alpha, side.scale if known else None, norm)
        for side, norm in zip(both, norms, strict=True)
    )
    before, after = (None if side is None else next(updates) for side in (old, new))
    values = _values(outer, inner)
    if not math.isfinite(_norm(values)):
        return LoraChange(before, after, math.nan, None, None)
    return LoraChange(before, after, _norm(values), *_ranks(values, _noise(outer, inner)))


def _ranks(values: NDArray[Any], noise: float) -> tuple[int, int]:
    """Return the rank of a matrix by its singular values, and how many of these have 99.9 % of its squared norm."""
    import numpy as np

    rank = int(np.count_nonzero(values > noise))
    if not rank:
        return 0, 0
    energy = np.cumsum(np.square(values[:rank] / values[0]))
    return rank, int(np.searchsorted(energy, _MOST_ENERGY * energy[-1])) + 1


def _noise(outer: NDArray[Any], inner: NDArray[Any]) -> float:
    """Return the size of the singular values that rounding makes out of zeros."""
    import numpy as np

    size = float(np.linalg.norm(outer)) * float(np.linalg.norm(inner))
    return 8 * len(inner.T) * sys.float_info.epsilon * size


def _values(outer: NDArray[Any], inner: NDArray[Any]) -> NDArray[Any]:
    """Return the singular values of ``B @ A``, given the triangular factors of B and of the transposed A."""
    import numpy as np

    core = _product(outer, inner)
    return core[0] if np.isnan(core).any() else np.asarray(np.linalg.svd(core, compute_uv=False))


def _product(outer: NDArray[Any], inner: NDArray[Any]) -> NDArray[Any]:
    """Return a small matrix with the singular values of ``B @ A``; NaN if they are too large, or not numbers."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        core = np.asarray(outer @ inner.T)
    return core if np.isfinite(core).all() else np.full((1, 1), math.nan)


def _norm(values: NDArray[Any]) -> float:
    singular: list[float] = values.ravel().tolist()
    return math.hypot(*singular)


def _triangle(blocks: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """Return the triangular factor of a matrix, given blocks of its rows."""
    import numpy as np

    found: NDArray[Any] = next(blocks)
    for block in blocks:
        if not np.isfinite(block).all():
            return np.full((1, block.shape[1]), math.nan)
        found = np.asarray(np.linalg.qr(np.concatenate([found, block]), mode="r"))
    return found


def _outputs(sides: Sequence[Factors]) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows of the matrices B beside each other; the first block has no rows."""
    import numpy as np

    matrices = [_elements(side.second, side.second_spec) for side in sides]
    rows, width = sides[0].second_spec.shape[0], sum(side.rank for side in sides)
    yield np.zeros((0, width))
    for start, end in _blocks(rows, width):
        parts = [
            matrix.floats(start * side.rank, end * side.rank).reshape(end - start, side.rank)
            for matrix, side in zip(matrices, sides, strict=True)
        ]
        yield np.concatenate(parts, axis=1)


def _inputs(sides: Sequence[Factors]) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows of the transposed matrices A beside each other; the first block has no rows."""
    import numpy as np

    matrices = [_elements(side.first, side.first_spec) for side in sides]
    columns, width = math.prod(sides[0].first_spec.shape[1:]), sum(side.rank for side in sides)
    yield np.zeros((0, width))
    for start, end in _blocks(columns, width):
        rows = [
            matrix.floats(row * columns + start, row * columns + end)
            for matrix, side in zip(matrices, sides, strict=True)
            for row in range(side.rank)
        ]
        yield np.stack(rows, axis=1)


def _blocks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(width, _BLOCK // width)
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


@dataclass(frozen=True)
class _Elements:
    data: memoryview
    spec: TensorSpec

    def floats(self, start: int, end: int) -> NDArray[Any]:
        """Return some elements in float64."""
        import numpy as np

        size = self.spec.dtype.bits // 8
        return to_float(self.data[start * size : end * size], self.spec.dtype).astype(np.float64)


def _elements(data: Buffer, spec: TensorSpec) -> _Elements:
    return _Elements(memoryview(data).cast("B"), spec)
