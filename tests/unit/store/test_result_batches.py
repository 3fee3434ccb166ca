"""Computed tensors are encoded batch by batch, and a batch is finished while the next one is encoded."""

from functools import partial

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.store import batches
from git_theta_ext.store.batches import Batches


class Recorder:
    """A store that notes what it is asked to do."""

    threads = 1

    def __init__(self, *, fails_at=None):
        self.events = []
        self.fails_at = fails_at

    def begin_put(self, items, *, hints):
        number = sum(name == "encode" for name, _ in self.events)
        self.events.append(("encode", [bytes(data) for _, _, data in items]))
        if number == self.fails_at:
            raise StoreError("no space")
        return partial(self.finish, number)

    def finish(self, number):
        self.events.append(("finish", number))
        return 10


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(batches, "BATCH_BYTES", 8)


def durable_in(store):
    return lambda notes: store.events.append(("durable", [note for _, note in notes]))


def test_a_batch_is_finished_after_the_next_one_is_encoded(make):
    store = Recorder()
    made = Batches(store, durable_in(store))
    data = [make(2, seed)[2] for seed in range(3)]
    for number, values in enumerate(data):
        spec, digest, _ = make(2, number)
        assert made.add(spec, values, note=number).digest == digest
    made.flush()
    assert store.events == [
        ("encode", [data[0]]),
        ("encode", [data[1]]),
        ("finish", 0),
        ("durable", [0]),
        ("encode", [data[2]]),
        ("finish", 1),
        ("durable", [1]),
        ("finish", 2),
        ("durable", [2]),
    ]
    assert made.written == 30


def test_equal_tensors_are_stored_once_and_are_durable_after_that(make):
    store = Recorder()
    made = Batches(store, durable_in(store))
    spec, _, data = make(2)
    for note in "ab":
        made.add(spec, data, note=note)
    made.flush()
    assert store.events == [
        ("encode", [data]),
        ("encode", []),
        ("finish", 0),
        ("durable", ["a"]),
        ("finish", 1),
        ("durable", ["b"]),
    ]


def test_an_error_leaves_the_batches_before_it_durable(make):
    store = Recorder(fails_at=1)
    made = Batches(store, durable_in(store))

    def add_all():
        for seed in range(3):
            spec, _, data = make(2, seed)
            made.add(spec, data, note=seed)
        made.flush()

    with pytest.raises(StoreError, match="no space"):
        add_all()
    assert store.events[2:] == [("finish", 0), ("durable", [0])]


def test_a_known_digest_is_not_computed_again(make, monkeypatch):
    monkeypatch.setattr(batches, "tensor_digest", None)
    made = Batches(Recorder())
    spec, digest, data = make(2)
    assert made.add(spec, data, digest=digest).digest == digest
    made.flush()
