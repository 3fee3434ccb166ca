"""Tensors in memory are handed out as the store hands out its own."""

import threading

import numpy as np
import pytest

from git_theta_ext.errors import MissingError
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.memory import MemoryStore
from git_theta_ext.store.store import Store

SHAPES = [(3,), (), (0, 4), (700, 1500), (5, 1 << 19)]


def drawn(shape, kind, seed):
    values = np.random.default_rng(seed).integers(0, 200, shape).astype(kind)
    spec = TensorSpec.of({"f4": "F32", "u1": "U8"}[kind], shape)
    return spec, tensor_digest(spec, values.tobytes()), values.tobytes()


@pytest.mark.parametrize("span", [1, 2, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_groups_come_in_the_same_pieces_as_from_the_store(tmp_path, shape, span):
    items = [drawn(shape, kind, seed) for seed, kind in enumerate(("f4", "u1", "f4"))]
    memory, store = MemoryStore(2), Store(tmp_path / "theta")
    memory.put(items)
    store.put(items)
    groups = [[(digest, spec) for spec, digest, _ in items[:2]], [(items[2][1], items[2][0])]]

    def pieces(source):
        read = source.read_aligned(groups, lambda piece: (piece.group, piece.element, len(piece.chunks)), span=span)
        return [piece._replace(chunks=tuple(map(bytes, piece.chunks))) for piece in read]

    found = pieces(memory)
    assert found == pieces(store)
    first = [piece for piece in found if piece.group == 0]
    elements = items[0][0].elements
    assert [piece.element for piece in first] == [*range(0, elements, span << 19), elements]
    assert [piece.offset for piece in first] == [4 * piece.element for piece in first]
    assert [piece.result for piece in first] == [*((0, piece.element, 2) for piece in first[:-1]), None]
    assert b"".join(piece.data for piece in first[:-1]) == items[0][2]
    assert first[-1].chunks == ()
    store.close()


@pytest.mark.parametrize(
    "make", [lambda path: Store(path, threads=5), lambda _: MemoryStore(5)], ids=["store", "memory"]
)
def test_groups_are_read_in_as_many_threads_as_are_asked_for(tmp_path, make):
    source = make(tmp_path / "theta")
    items = [drawn((700, 1500), "f4", seed) for seed in range(4)]
    source.put(items)
    for threads in (0, 1):
        seen, expected, more = set(), threads or 5, threading.Condition()

        def work(_, seen=seen, expected=expected, more=more):
            with more:
                seen.add(threading.get_ident())
                more.notify_all()
                assert more.wait_for(lambda: len(seen) >= expected, timeout=60)

        list(source.read_aligned([[(digest, spec)] for spec, digest, _ in items], work, threads=threads))
        assert len(seen) == expected


def test_what_is_not_there_is_named():
    memory = MemoryStore()
    spec, digest, data = drawn((4,), "f4", 1)
    assert memory.touch_and_find_missing({digest}) == {digest}
    with pytest.raises(MissingError, match=digest):
        memory.read(digest, spec)
    with pytest.raises(MissingError, match=digest):
        list(memory.read_aligned([[(digest, spec)]]))
    assert memory.add(spec, data).digest == digest
    assert memory.touch_and_find_missing({digest}) == set()
    assert bytes(memory.read(digest, spec)) == data
