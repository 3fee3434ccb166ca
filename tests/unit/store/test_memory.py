"""Tensors in memory are handed out as the store hands out its own."""

import numpy as np
import pytest

from git_theta_ext.errors import MissingError
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.blobs import Store
from git_theta_ext.store.memory import Memory

SHAPES = [(3,), (), (0, 4), (700, 1500)]


def drawn(shape, kind, seed):
    values = np.random.default_rng(seed).integers(0, 200, shape).astype(kind)
    spec = TensorSpec.of({"f4": "F32", "u1": "U8"}[kind], shape)
    return spec, tensor_digest(spec, values.tobytes()), values.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_groups_come_in_the_same_pieces_as_from_the_store(tmp_path, shape):
    items = [drawn(shape, kind, seed) for seed, kind in enumerate(("f4", "u1", "f4"))]
    memory, store = Memory(2), Store(tmp_path / "theta")
    memory.put(items)
    store.put(items)
    groups = [[(digest, spec) for spec, digest, _ in items[:2]], [(items[2][1], items[2][0])]]

    def told(source):
        read = source.side_by_side(groups, lambda item, start, chunks: (item, start, len(chunks)))
        return [
            (item, start if chunks else None, list(map(bytes, chunks)), found) for item, start, chunks, found in read
        ]

    assert told(memory) == told(store)
    store.close()


def test_what_is_not_there_is_named():
    memory = Memory()
    spec, digest, data = drawn((4,), "f4", 1)
    assert memory.missing({digest}) == {digest}
    with pytest.raises(MissingError, match=digest):
        memory.read(digest, spec)
    with pytest.raises(MissingError, match=digest):
        list(memory.side_by_side([[(digest, spec)]]))
    assert memory.add(spec, data).digest == digest
    assert memory.missing({digest}) == set()
    assert bytes(memory.read(digest, spec)) == data
