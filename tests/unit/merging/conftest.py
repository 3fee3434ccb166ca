"""Manifests and their values in a store, from numpy arrays."""

import numpy as np
import pytest

from git_theta_ext.model.layout import Layout, Literal, Slice
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec, tensor_digest
from git_theta_ext.store.store import Store

KINDS = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "complex64": "C64"}


class Bench:
    """Makes manifests and keeps what they name in a store."""

    def __init__(self, root):
        self.store = Store(root)

    def parameter(self, values):
        if isinstance(values, tuple):  # element type and raw bits
            kind, array = values
        else:
            array = np.asarray(values, None if isinstance(values, np.ndarray) else np.float32)
            kind = KINDS[str(array.dtype)]
        spec = TensorSpec.of(kind, array.shape)
        digest = tensor_digest(spec, array.tobytes())
        self.store.put([(spec, digest, array.tobytes())])
        return Parameter(spec, digest)

    def manifest(self, parameters, *, head=b"head", kind="safetensors"):
        made = {
            name: value if isinstance(value, Parameter) else self.parameter(value) for name, value in parameters.items()
        }
        slices = [Slice(name, parameter.spec) for name, parameter in made.items()]
        return Manifest(kind, self.skeleton(Layout((Literal(head), *slices))), made)

    def skeleton(self, layout):
        data = layout.to_skeleton()
        spec = skeleton_spec(len(data))
        digest = tensor_digest(spec, data)
        self.store.put([(spec, digest, data)])
        return Skeleton(digest, len(data))

    def values(self, parameter, kind=np.float32):
        data = np.frombuffer(self.store.read(parameter.digest, parameter.spec), kind)
        return data.reshape(parameter.spec.shape).tolist()

    def layout(self, manifest):
        skeleton = manifest.skeleton
        return Layout.from_skeleton(self.store.read(skeleton.digest, skeleton_spec(skeleton.nbytes)))


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "theta")
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("bench") / "theta")
    yield made
    made.store.close()


class Composer:
    """Lays out any parameters, in order of their names."""

    mergeable = True

    def compose(self, layout, parameters):
        return Layout((layout.segments[0], *(Slice(name, spec) for name, spec in sorted(parameters.items()))))


@pytest.fixture
def composing(monkeypatch):
    """Make every format one that can lay out any parameters."""
    for module in ("apply", "planning.whole_layouts"):
        monkeypatch.setattr(f"git_theta_ext.merging.{module}.find_format", lambda _: Composer())
