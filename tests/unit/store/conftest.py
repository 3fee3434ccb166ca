import numpy as np
import pytest
from helpers import dense_payload

from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.packs.format import Entry, write_header
from git_theta_ext.store.store import Store
from git_theta_ext.util.files import sha256_of


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=2)
    yield store
    store.close()


@pytest.fixture
def make():
    """Return a function that makes a float tensor of some elements: (spec, digest, bytes)."""

    def tensor(elements, seed=0):
        values = np.random.default_rng(seed).standard_normal(elements).astype("<f4")
        spec = TensorSpec.of("F32", (elements,))
        return spec, tensor_digest(spec, values.data), values.tobytes()

    return tensor


@pytest.fixture
def steps():
    """Return a function that makes tensors, each a little further than the one before: (spec, digest, bytes)."""

    def tensors(count, elements=4096, seed=0):
        draw = np.random.default_rng(seed)
        spec = TensorSpec.of("F32", (elements,))
        values = draw.normal(0, 0.05, elements).astype("<f4")
        made = []
        for _ in range(count):
            made.append((spec, tensor_digest(spec, values.data), values.tobytes()))
            values = values + draw.normal(0, 1e-5, elements).astype("<f4")
        return made

    return tensors


@pytest.fixture
def plant():
    """Return a function that gives a store a pack of one entry whose payload is up to the test."""

    def adopt(store, entry, payload=b""):
        path = store.root / "made"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(write_header([entry]) + payload)
        name = sha256_of(path)
        store.adopt(name, path)
        return name

    return adopt


@pytest.fixture
def lean(plant):
    """Return a function that gives a store a pack that holds a tensor as a delta; returns its name."""

    def adopt(store, item, parent):
        spec, digest, data = item
        hint, old = DeltaHint("delta", parent[1], parent[0]), MemorySource(parent[0], parent[2])
        (blob,) = coded_blobs(digest, hint, lambda: MemorySource(spec, data), lambda: old)
        payload = b"".join(bytes(memoryview(piece).cast("B")) for piece in blob.encode(0))
        return plant(store, Entry(digest, spec, "delta", (len(payload),), bases=(parent[1],)), payload)

    return adopt


@pytest.fixture
def poison(plant):
    """Return a function that gives a store a pack whose tensor is not what its digest says; returns its name."""

    def adopt(store, item, value=0):
        spec, digest, data = item
        payload = dense_payload(spec, bytes([value]) * len(data))
        return plant(store, Entry(digest, spec, "dense", (len(payload),)), payload)

    return adopt
