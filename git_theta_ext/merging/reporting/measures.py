"""Measure how much the sides of a merge changed a parameter, how much they agree, and how much the merge changed it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.interfaces.arrays import array_namespace, astype
from git_theta_ext.merging.execution.stream import read_parameters
from git_theta_ext.model.floats import is_wide
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.interfaces import Array, Trim
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.tensor_store import TensorStore


@dataclass(frozen=True)
class MergedVersions:
    """The versions of a parameter in a merge; all have one shape and an element type that allows arithmetic.

    Attributes:
        base: The common ancestor's value; None counts as zero.
        sides: The values of the sides that changed it.
        merged: The merged value; None if it is not measured.
        trims: The threshold of each side, if the method has any.
    """

    base: Parameter | None
    sides: tuple[Parameter, ...]
    merged: Parameter | None = None
    trims: tuple[Trim, ...] = ()

    @property
    def members(self) -> list[Parameter]:
        """All values, in the order in which they are read."""
        return [value for value in (self.base, *self.sides, self.merged) if value is not None]

    @property
    def comparable(self) -> bool:
        """Whether all values have one shape and numbers that can be subtracted."""
        first = self.members[0].spec
        return all(
            value.spec.shape == first.shape
            and value.spec.dtype.arithmetic
            and value.spec.dtype.kind == first.dtype.kind
            for value in self.members
        )


@dataclass(frozen=True)
class Measures:
    """Sums over the elements of one or more parameters, so that those of several can be added.

    Attributes:
        elements: Number of elements.
        base: Squared norm of the common ancestor's values.
        products: Inner products of the task vectors; squared norms on the diagonal.
        moved: Number of elements that each side moved.
        kept: Number of these that the threshold of each side keeps; None without thresholds.
        touched: Number of elements that some side moved.
        common: Number of elements that two or more sides moved.
        opposed: Number of these that were not all moved in the same direction.
        merged: Squared norm of the change by the merge; None if it is not measured.
        left: Number of elements that some side moved and the merge did not; None if it is not measured.
    """

    elements: int
    base: float
    products: tuple[tuple[float, ...], ...]
    moved: tuple[int, ...]
    kept: tuple[int, ...] | None
    touched: int
    common: int
    opposed: int
    merged: float | None = None
    left: int | None = None

    def __add__(self, other: Measures) -> Measures:
        products = tuple(
            tuple(a + b for a, b in zip(row, second, strict=True))
            for row, second in zip(self.products, other.products, strict=True)
        )
        return Measures(
            self.elements + other.elements,
            self.base + other.base,
            products,
            _added(self.moved, other.moved),
            None if self.kept is None or other.kept is None else _added(self.kept, other.kept),
            self.touched + other.touched,
            self.common + other.common,
            self.opposed + other.opposed,
            None if self.merged is None or other.merged is None else self.merged + other.merged,
            None if self.left is None or other.left is None else self.left + other.left,
        )

    @property
    def distances(self) -> tuple[float, ...]:
        """The norm of each side's change over that of the ancestor's values; infinite if that is zero."""
        return tuple(_root_ratio(row[number], self.base) for number, row in enumerate(self.products))

    @property
    def trimmed(self) -> tuple[float, ...] | None:
        """For each side, the share of the elements it moved that its threshold drops."""
        if self.kept is None:
            return None
        return tuple(1 - kept / moved if moved else 0.0 for kept, moved in zip(self.kept, self.moved, strict=True))

    @property
    def agreement(self) -> float | None:
        """The share of elements that several sides moved in the same direction; None if several moved none."""
        return 1 - self.opposed / self.common if self.common else None

    @property
    def unmoved(self) -> float | None:
        """The share of elements that some side moved and the merge did not; None if it is not measured."""
        return None if self.left is None else self.left / max(self.touched, 1)

    def cosine(self, one: int, other: int) -> float | None:
        """Return the cosine of two sides' task vectors; None if one of them is zero."""
        size = math.sqrt(self.products[one][one] * self.products[other][other])
        return self.products[one][other] / size if size else None

    @property
    def energy(self) -> float | None:
        """The squared norm of the change by the merge over the mean of the sides'; None if nothing changed."""
        mean = math.fsum(row[number] for number, row in enumerate(self.products)) / len(self.products)
        return self.merged / mean if self.merged is not None and mean else None


def measure(
    store: TensorStore, device: Device, versions: Mapping[str, MergedVersions]
) -> Iterator[tuple[str, Measures]]:
    """Measure parameters one after another, in pieces that are read and computed in threads.

    Args:
        store: Holds the values.
        device: Where to compute.
        versions: The versions of each parameter, by name; all comparable.

    Raises:
        MissingError: A value is not in the store.
        CorruptError: A value is damaged.
    """
    names = list(versions)
    groups = [versions[name].members for name in names]

    def work(piece: DecodedPiece) -> Measures:
        return _piece(device, versions[names[piece.group]], piece.chunks)

    total: Measures | None = None
    for piece in read_parameters(store, groups, work if device.threads else None):
        if piece.chunks:
            part = piece.result if device.threads else work(piece)
            total = part if total is None else total + part
        elif total is not None:
            yield names[piece.group], total
            total = None


def _piece(device: Device, versions: MergedVersions, chunks: Sequence[memoryview]) -> Measures:
    members = versions.members
    wide = any(is_wide(member.spec.dtype) for member in members)
    load = partial(device.load, wide=wide)
    values = [load(chunk, member.spec.dtype) for member, chunk in zip(members, chunks, strict=True)]
    xp = array_namespace(values[0])
    base = values.pop(0) if versions.base is not None else xp.zeros_like(values[0])
    moved = [value - base for value in values]
    merged = moved.pop() if versions.merged is not None else None
    signs = xp.stack([xp.sign(vector) for vector in moved])
    moved_by, direction = abs(signs).sum(0), abs(signs.sum(0))
    common = moved_by > 1
    kept = [_kept(vector, trim) for vector, trim in zip(moved, versions.trims, strict=True)] if versions.trims else None
    return Measures(
        math.prod(base.shape),
        _dot(base, base),
        tuple(tuple(_dot(one, other) for other in moved) for one in moved),
        tuple(int(count) for count in (signs != 0).sum(1)),
        None if kept is None else tuple(kept),
        int((moved_by > 0).sum()),
        int(common.sum()),
        int((common & (direction < moved_by)).sum()),
        None if merged is None else _dot(merged, merged),
        None if merged is None else int(((moved_by > 0) & (merged == 0)).sum()),
    )


def _dot(one: Array, other: Array) -> float:
    wide = array_namespace(one).float64
    return float(astype(one, wide, copy=False) @ astype(other, wide, copy=False))


def _kept(vector: Array, trim: Trim) -> int:
    """Return the number of non-zero elements that a threshold keeps."""
    xp = array_namespace(vector)
    bits = astype(vector, xp.float32, copy=False).view(xp.int32) & 0x7FFFFFFF
    equal = int((bits == trim.bits).sum()) if trim.bits else 0
    return int((bits > trim.bits).sum()) + min(equal, trim.equal)


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _root_ratio(above: float, below: float) -> float:
    if not above:
        return 0.0
    return math.sqrt(above / below) if below else math.inf
