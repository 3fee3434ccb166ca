"""A diff of external data reads the tensors that differ, and no others."""

import numpy as np

from git_theta_ext.checkpoint.external_data import ExternalFile, StoredChunks
from git_theta_ext.model.external_tensor import ExternalTensor
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.operations.diff.external import _Found, _sides

SPEC, BYTES = TensorSpec.of("F32", (4,)), TensorSpec.of("U8", (16,))


def external(read, **values):
    """Return a file with a tensor in each chunk; ``read`` gets the names of the chunks that are read."""
    chunks = {f"chunk/{n}": np.full(4, value, np.float32).tobytes() for n, value in enumerate(values.values())}
    parameters = {name: Parameter(BYTES, tensor_digest(BYTES, data)) for name, data in chunks.items()}

    def read_chunk(name, _):
        read.append(name)
        return memoryview(chunks[name])

    tensors = [ExternalTensor(name, SPEC, "m.data", 16 * n) for n, name in enumerate(values)]
    content = StoredChunks(Manifest("opaque", Skeleton.of(b""), parameters), read_chunk)
    return {"m.data": _Found("m.onnx", "onnx", ExternalFile.of(content, tensors))}


def compared(old, new):
    """Return the parameters of both sides."""
    return [dict(_sides(*pair))["m.data"].manifest.parameters for pair in ((old, new), (new, old))]


def test_what_both_versions_have_is_not_read():
    read = [], []
    old, new = compared(external(read[0], a=1, b=2, c=3), external(read[1], a=1, b=5, c=3))
    assert read == (["chunk/1"], ["chunk/1"])
    assert [name for name in old if old[name] != new[name]] == ["b"]


def test_a_copy_of_an_unchanged_tensor_has_the_digest_of_it():
    old, new = compared(external([], a=1, b=2), external([], a=1, b=2, c=1))
    assert new["c"] == new["a"] == old["a"]
    assert old["a"] == Parameter(SPEC, tensor_digest(SPEC, np.ones(4, np.float32).tobytes()))
    assert old["b"] == new["b"]


def test_a_file_that_only_one_version_has_is_read():
    (path, side), *others = _sides(external([], a=1), {})
    assert (path, list(side.manifest.parameters), others) == ("m.data", ["a"], [])
