"""Give the rows of embeddings the order of one vocabulary, so that a row is the same token on every side of a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.floats import is_real, round_once, to_float64
from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer


def places_of(ids: Mapping[str, int], rows: int, united: Mapping[str, int], merged_rows: int) -> NDArray[np.int64]:
    """Return the row that a side has for each row of the merged tensor; -1 if it has none.

    Rows without a token, which pad a tensor, keep their places.

    Args:
        ids: Token to row of the side.
        rows: The number of its rows.
        united: Token to row of the merged tensor.
        merged_rows: The number of rows of the merged tensor.
    """
    import numpy as np

    places = np.full(merged_rows, -1, np.int64)
    padding = np.setdiff1d(np.arange(min(rows, merged_rows)), [*ids.values(), *united.values()])
    places[padding] = padding
    for token, row in united.items():
        old = ids.get(token, -1)
        places[row] = old if old < rows else -1
    return places


def aligned_rows(
    values: Sequence[Buffer | None], specs: Sequence[TensorSpec | None], places: Sequence[NDArray[np.int64]]
) -> list[bytes]:
    """Return the values of the ancestor and of the sides with the rows of the merged tensor.

    A row that the ancestor lacks is the mean of those that the sides have, so that a side's change of it is its
    difference from the mean. A row that a side lacks is the ancestor's: the side did not change it. So a row that one
    side alone has is taken as it is, by whatever method, and one that several sides added is their mean.

    Args:
        values: The value of the ancestor, or None, then those of the sides: tensors of one element type, a real float,
            whose shapes differ in the number of rows.
        specs: Their element types and shapes.
        places: For each of them the result of ``places_of``.

    Returns:
        The values of the ancestor, if there is one, and of the sides.
    """
    import numpy as np

    kind = next(spec for spec in specs if spec is not None).dtype
    rows: list[NDArray[np.uint8] | None] = [
        None if value is None or spec is None else _rows(value, spec) for value, spec in zip(values, specs, strict=True)
    ]
    width = next(each.shape[1] for each in rows if each is not None)
    result = np.zeros((len(rows), len(places[0]), width), np.uint8)
    present = np.stack([at >= 0 if each is not None else at < -1 for each, at in zip(rows, places, strict=True)])
    for room, each, at, there in zip(result, rows, places, present, strict=True):
        if each is not None:
            room[there] = each[at[there]]
    new = np.flatnonzero(~present[0])
    for row in new:
        sides = [
            to_float64(side[row].tobytes(), kind)
            for side, there in zip(result[1:], present[1:], strict=True)
            if there[row]
        ]
        if sides:
            mean = sides[0] if len(sides) == 1 else np.mean(sides, axis=0)
            result[0, row] = np.frombuffer(round_once(mean, kind), np.uint8)
    for room, there in zip(result[1:], present[1:], strict=True):
        room[~there] = result[0][~there]
    return [room.tobytes() for room, each in zip(result, rows, strict=True) if each is not None]


def merged_spec(
    specs: Sequence[TensorSpec | None], sizes: Sequence[int], size: int, source: int | None = None
) -> TensorSpec | None:
    """Return the spec of a tensor with a row for each token of a vocabulary; None if the tensors have no such rows.

    Args:
        specs: Of the ancestor, or None, then of the sides.
        sizes: The sizes of their vocabularies.
        size: That of the merged vocabulary.
        source: The place among the specs of the version whose vocabulary this is, which has its rows; None if it is
            that of all sides.
    """
    present = [(spec, own) for spec, own in zip(specs, sizes, strict=True) if spec is not None]
    first = present[0][0]
    if len(present) < len(specs) - 1 or any(spec is None for spec in specs[1:]) or not is_real(first.dtype):
        return None
    for spec, own in present:
        if spec.dtype != first.dtype or not spec.shape or spec.shape[1:] != first.shape[1:] or spec.shape[0] < own:
            return None
    if len({spec.shape for spec, _ in present}) == 1:  # then rows have changed, and not their number
        return None
    if source is not None:
        return specs[source]
    rows = max(size, *(spec.shape[0] for spec, _ in present))
    return TensorSpec(first.dtype, (rows, *first.shape[1:]))


def may_have_tokens(specs: Sequence[TensorSpec | None]) -> bool:
    """Return whether versions of a tensor differ in their number of rows only, as those of embeddings do.

    Args:
        specs: Of the ancestor, or None, then of the sides.
    """
    return merged_spec(specs, [0] * len(specs), 0) is not None


def _rows(value: Buffer, spec: TensorSpec) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(memoryview(value), np.uint8).reshape(spec.shape[0], -1)
