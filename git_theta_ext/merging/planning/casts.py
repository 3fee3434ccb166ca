"""Find the sides of a merge that changed only the element type of a parameter, without training it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.merging.sums import is_cast
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.tensor_store import TensorStore

WIDEST = 64
"""The most bits of an element: tensors of wider elements cannot be read in step with others."""


@dataclass(frozen=True)
class Casts:
    """The sides that only changed the element type of a parameter that several sides changed.

    Attributes:
        sides: Indices of the sides that have the base's values, rounded to another element type.
        unknown: Why this could not be found out; empty if it could.
    """

    sides: frozenset[int] = frozenset()
    unknown: str = ""


def cast_candidates(
    base: Manifest | None, sides: Sequence[Manifest]
) -> dict[str, tuple[Parameter, dict[int, Parameter]]]:
    """Return the parameters whose values have to be read: the base, and the sides that changed the element type.

    These are the parameters that several sides changed, and whose element type, but not shape, one side changed.
    """
    candidates = {}
    for name, before in ({} if base is None else base.parameters).items():
        versions = [side.parameters.get(name, before) for side in sides]
        if all(version.spec is before.spec for version in versions):  # as in most merges
            continue
        values = {number: value for number, side in enumerate(sides) if (value := side.parameters.get(name)) != before}
        cast = {number: value for number, value in values.items() if value is not None and _may_be_cast(before, value)}
        if cast and len(set(values.values())) > 1:
            candidates[name] = before, cast
    return candidates


def values_to_read(base: Manifest | None, sides: Sequence[Manifest]) -> Iterator[Digest]:
    """Yield the digests of the values that ``find_casts`` reads."""
    for before, values in cast_candidates(base, sides).values():
        yield before.digest
        yield from (value.digest for value in values.values())


def find_casts(store: TensorStore, base: Manifest | None, sides: Sequence[Manifest]) -> dict[str, Casts]:
    """Find the sides that only changed the element type, for each parameter.

    Tensors are read up to the first chunk that differs.

    Args:
        store: Holds the values, as far as they are available.
        base: The common ancestor.
        sides: The versions that are merged.
    """
    checked: dict[tuple[Parameter, Parameter], bool] = {}
    casts = {}
    for name, (before, values) in cast_candidates(base, sides).items():
        casts[name] = _casts_of(store, before, values, checked)
    return casts


def _casts_of(
    store: TensorStore,
    before: Parameter,
    values: Mapping[int, Parameter],
    checked: dict[tuple[Parameter, Parameter], bool],
) -> Casts:
    try:
        for value in values.values():
            if (before, value) not in checked:
                checked[before, value] = _is_cast(store, before, value)
    except (MissingError, CorruptError) as error:
        return Casts(unknown=error.message)
    return Casts(frozenset(number for number, value in values.items() if checked[before, value]))


def _may_be_cast(before: Parameter, value: Parameter) -> bool:
    one, other = before.spec, value.spec
    return (
        one.shape == other.shape
        and one.dtype != other.dtype
        and one.dtype.kind == other.dtype.kind
        and one.dtype.arithmetic
        and other.dtype.arithmetic
        and max(one.dtype.bits, other.dtype.bits) <= WIDEST
    )


def _is_cast(store: TensorStore, before: Parameter, value: Parameter) -> bool:
    def same(piece: DecodedPiece) -> bool:
        return is_cast(piece.chunks[0], before.spec.dtype, piece.chunks[1], value.spec.dtype)

    group = [(before.digest, before.spec), (value.digest, value.spec)]
    return all(not piece.chunks or piece.result for piece in store.read_aligned([group], same))
