"""Elementwise merges in one pass, from stored elements to those of the result, by the compiled module.

What they compute is what merge methods compute with arrays, with the same bits. There is no second implementation here:
without the module, and wherever it declines, the arrays are used.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding.kernels import load_compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_KINDS = {"BF16": 0, "F16": 1, "F32": 2}
"""The element types that the module knows."""

MEAN, SUM, MASS, COUNT = "mean", "sum", "mass", "count"
_COMBINATIONS = (MEAN, SUM, MASS, COUNT)


compiled = load_compiled("_merges")


def knows(dtypes: Iterable[Dtype]) -> bool:
    """Return whether elements of these types can be merged here."""
    return compiled is not None and all(dtype.name in _KINDS for dtype in dtypes)


def merge_elements(  # noqa: PLR0913 - named
    tensors: Sequence[Sequence[Buffer]],
    dtypes: Sequence[Dtype],
    rooms: Sequence[Buffer],
    dtype: Dtype,
    *,
    combine: str,
    weights: Sequence[float],
    trims: Sequence[int] = (),
    keys: Sequence[Sequence[int]] = (),
    start: int = 0,
    kept: float = 1.0,
    scale: float = 1.0,
    majority: int = 1,
) -> list[tuple[int, int] | None]:
    """Merge the elements of tensors, each by itself, and write those of the results.

    Args:
        tensors: For each tensor, the elements of the base, unless ``combine`` is ``mean``, and of each branch.
        dtypes: The element type of each of these; see ``knows``.
        rooms: For each tensor, memory for the elements of the result.
        dtype: Their element type.
        combine: How branches, or their differences from the base, are combined: the ``mean`` of the branches, the
            ``sum`` of the differences, or the mean of those that agree with the sign that is elected by ``mass`` or by
            ``count``.
        weights: A weight for each branch, not all zero.
        trims: For each branch, the bits of the smallest magnitude of a difference that is kept; empty to keep all.
        keys: For each tensor, the key of the random numbers by which differences of each branch are dropped; empty to
            drop none.
        start: Index of the first element, for random numbers.
        kept: The probability to keep a difference, and what it is divided by.
        scale: The factor of the combined difference.
        majority: The sign of elements whose votes cancel out.

    Returns:
        For each tensor, the votes and ties of the election, as in ``git_theta_ext.interfaces.Elected``. None if a value
        is not finite, or a result does not fit its type: then what was written means nothing.
    """
    kinds = [_KINDS[kind.name] for kind in dtypes]
    ordered = tensors if combine == MEAN else [[*branches, base] for base, *branches in tensors]
    drawn = tuple(chain.from_iterable(keys))
    results: list[tuple[int, int] | None] = compiled.merge(
        tuple(chain.from_iterable(ordered)),
        bytes(kinds if combine == MEAN else [*kinds[1:], kinds[0]]),
        tuple(rooms),
        _KINDS[dtype.name],
        _COMBINATIONS.index(combine),
        struct.pack(f"{len(weights)}d", *weights),
        struct.pack(f"{len(trims)}I", *trims),
        struct.pack(f"{len(drawn)}Q", *drawn),
        start,
        kept,
        sum(sorted(weights)),
        scale,
        majority,
    )
    return results


def count_differences(
    tensors: Sequence[Sequence[Buffer]],
    dtypes: Sequence[Dtype],
    uppers: Sequence[Any],
    windows: Sequence[Any],
    firsts: Sequence[int],
) -> list[bool]:
    """Count the differences of elements of branches from those of the base, by the bits of float32 numbers.

    Several threads may count in the same arrays at the same time.

    Args:
        tensors: For each tensor, the elements of the base, and of each branch.
        dtypes: The element type of each of these; see ``knows``.
        uppers: For each branch, an array of 2^16 int64, to which the number of differences by their upper 16 bits is
            added; one without elements to count none.
        windows: For each branch, an array of int64 of shape (2, n), to which the number of positive and of negative
            differences of n magnitudes is added.
        firsts: For each branch, the bits of the smallest of these magnitudes.

    Returns:
        For each tensor, whether it was counted: nothing of it is if a value is not finite.
    """
    kinds = bytes(_KINDS[kind.name] for kind in dtypes)
    packed = struct.pack(f"{len(firsts)}I", *firsts)
    chunks = tuple(chain.from_iterable(tensors))
    counted: list[bool] = compiled.count(chunks, kinds, tuple(uppers), tuple(windows), packed)
    return counted
