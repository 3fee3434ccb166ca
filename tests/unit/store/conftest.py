import numpy as np
import pytest

from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.blobs import Store


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
