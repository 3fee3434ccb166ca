"""Tensors whose values are in several pieces, as processes save them."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.model.tensor_pieces import JoinedTensor, PiecedTensor, TensorPiece


def divided(values, *cuts):
    """Divide an array at some places of each dimension; return the tensor, its parameters and the bytes of these."""
    bounds = [[0, *cut, size] for cut, size in zip(cuts, values.shape, strict=True)]
    pieces, data = [], {}
    for ranges in product(*(list(pairwise(b)) for b in bounds)):
        start, shape = tuple(begin for begin, _ in ranges), tuple(end - begin for begin, end in ranges)
        name = f"w{list(ranges)}"
        pieces.append(TensorPiece(name, start, shape))
        data[name] = values[tuple(slice(*r) for r in ranges)].tobytes()
    tensor = PiecedTensor(values.shape, tuple(sorted(pieces, key=lambda piece: piece.start)))
    parameters = {p.name: Parameter(TensorSpec.of("F32", p.shape), f"{n:064x}") for n, p in enumerate(tensor.pieces)}
    return tensor, parameters, lambda name, _: memoryview(data[name])


VALUES = np.arange(12 * 10, dtype="f4").reshape(12, 10)
CUBE = np.arange(4 * 3 * 5, dtype="f4").reshape(4, 3, 5)


@pytest.mark.parametrize(
    ("values", "cuts"),
    [
        (VALUES, ([4, 8], [])),
        (VALUES, ([], [3, 7])),
        (VALUES, ([5], [1, 2])),
        (VALUES, ([6, 12, 12], [])),
        (CUBE, ([2], [1], [4])),
        (CUBE.reshape(-1), ([7, 30],)),
    ],
)
def test_the_pieces_of_a_tensor_make_up_its_bytes(values, cuts):
    tensor, parameters, read = divided(values, *cuts)
    joined = JoinedTensor.of(tensor, parameters)
    assert joined.spec == TensorSpec.of("F32", values.shape)
    assert joined.names == set(parameters)
    assert bytes(joined.value(read)) == values.tobytes()
    start, shape = tuple(1 for _ in values.shape), tuple(size - 2 for size in values.shape)
    part = values[tuple(slice(1, size - 1) for size in values.shape)]
    assert bytes(joined.part(start, shape, read)) == part.tobytes()


def test_chunks_have_the_size_that_readers_expect():
    values = np.arange(3 * (1 << 18), dtype="f4").reshape(3, -1)
    tensor, parameters, read = divided(values, [1, 2], [100])
    joined = JoinedTensor.of(tensor, parameters)
    chunks = [bytes(chunk) for _, chunk in joined.chunks(read)]
    assert [len(chunk) for chunk in chunks] == [1 << 21, 1 << 20]
    assert b"".join(chunks) == values.tobytes()


def test_only_the_rows_of_chosen_chunks_are_read():
    values = np.arange(6 * (1 << 19), dtype="f4").reshape(12, -1)
    tensor, parameters, read = divided(values, [3, 5, 9], [100])
    joined, before = JoinedTensor.of(tensor, parameters), []
    expected = [values.tobytes()[at : at + (1 << 21)] for at in range(0, values.nbytes, 1 << 21)]
    for numbers in ([0], [1], [2], [3], [5], [1, 4], [0, 2, 5], list(range(6))):
        before.clear()
        chunks = joined.chunks(lambda name, p: before.append(name) or read(name, p), numbers)
        assert [(n, bytes(chunk)) for n, chunk in chunks] == [(n, expected[n]) for n in numbers]
        rows = {row for n in numbers for row in (2 * n, 2 * n + 1)}
        needed = {p.name for p in tensor.pieces if rows & set(range(p.start[0], p.start[0] + p.shape[0]))}
        assert sorted(before) == sorted(needed)


def test_a_piece_that_is_not_there_or_has_other_values_makes_no_tensor():
    tensor, parameters, _ = divided(VALUES, [4, 8], [])
    first = next(iter(parameters))
    assert JoinedTensor.of(tensor, {n: p for n, p in parameters.items() if n != first}) is None
    for spec in (TensorSpec.of("F16", (4, 10)), TensorSpec.of("F32", (40,))):
        assert JoinedTensor.of(tensor, {**parameters, first: Parameter(spec, "0" * 64)}) is None


@pytest.mark.parametrize(
    "places",
    [
        [((0, 0), (6, 10)), ((7, 0), (5, 10))],
        [((0, 0), (7, 10)), ((6, 0), (6, 10))],
        [((0, 0), (6, 10)), ((6, 0), (5, 10))],
        [((0, 0), (12, 5)), ((0, 5), (6, 5))],
        [((0, 0), (12, 10)), ((0, 0), (12, 10))],
        [((0, 0), (6, 10)), ((6, 0), (60, 10))],
    ],
)
def test_pieces_that_leave_gaps_or_overlap_make_no_tensor(places):
    pieces = tuple(TensorPiece(str(number), *place) for number, place in enumerate(places))
    parameters = {p.name: Parameter(TensorSpec.of("F32", p.shape), "0" * 64) for p in pieces}
    assert JoinedTensor.of(PiecedTensor((12, 10), pieces), parameters) is None
