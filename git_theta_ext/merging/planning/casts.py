"""Find the sides of a merge that changed nothing but the element type of a parameter: that is no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.merging.sums import is_cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.read_ahead import Piece
    from git_theta_ext.store.tensor_store import TensorStore

WIDEST = 64
"""Bits of an element: wider ones are not read in step with others."""


@dataclass(frozen=True)
class Casts:
    """What is known of a parameter of which several sides differ from the base, one of them in the element type.

    Attributes:
        sides: Numbers of those that have the base's values, rounded to another element type.
        unknown: Why it is not known of the others, empty if it is.
    """

    sides: frozenset[int] = frozenset()
    unknown: str = ""


def cast_candidates(
    base: Manifest | None, sides: Sequence[Manifest]
) -> dict[str, tuple[Parameter, dict[int, Parameter]]]:
    """Return the parameters of which values have to be read: base, and the sides that changed the element type.

    These are those that several sides changed, one of them the element type and not the shape.
    """
    found = {}
    for name, before in ({} if base is None else base.parameters).items():
        values = {number: value for number, side in enumerate(sides) if (value := side.parameters.get(name)) != before}
        asked = {number: value for number, value in values.items() if value is not None and _may_be_cast(before, value)}
        if asked and len(set(values.values())) > 1:
            found[name] = before, asked
    return found


def values_to_read(base: Manifest | None, sides: Sequence[Manifest]) -> Iterator[Digest]:
    """Yield the digests of the values that ``find_casts`` reads."""
    for before, asked in cast_candidates(base, sides).values():
        yield before.digest
        yield from (value.digest for value in asked.values())


def find_casts(store: TensorStore, base: Manifest | None, sides: Sequence[Manifest]) -> dict[str, Casts]:
    """Tell by parameter which sides only changed the element type.

    A tensor is read as far as the first chunk that differs.

    Args:
        store: Holds the values, if they are here.
        base: The common ancestor.
        sides: The versions that are merged.
    """
    known: dict[tuple[Parameter, Parameter], bool] = {}
    found = {}
    for name, (before, asked) in cast_candidates(base, sides).items():
        found[name] = _found(store, before, asked, known)
    return found


def _found(
    store: TensorStore,
    before: Parameter,
    asked: Mapping[int, Parameter],
    known: dict[tuple[Parameter, Parameter], bool],
) -> Casts:
    try:
        for value in asked.values():
            if (before, value) not in known:
                known[before, value] = _is_cast(store, before, value)
    except (MissingError, CorruptError) as error:
        return Casts(unknown=error.message)
    return Casts(frozenset(number for number, value in asked.items() if known[before, value]))


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
    def same(piece: Piece) -> bool:
        return is_cast(piece.chunks[0], before.spec.dtype, piece.chunks[1], value.spec.dtype)

    group = [(before.digest, before.spec), (value.digest, value.spec)]
    return all(not piece.chunks or piece.result for piece in store.read_aligned([group], same))
