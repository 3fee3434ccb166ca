"""Files whose tensors another file names, read as tensors out of the chunks that they are stored in."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.external_data import (
    ExternalFile,
    StoredChunks,
    has_external_data,
    in_chunks_again,
    is_in_chunks,
    is_of_tensors,
)
from git_theta_ext.errors import FormatError
from git_theta_ext.model.external_tensor import ExternalTensor
from git_theta_ext.model.fields import Extent
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.store import Store

DATA = np.random.default_rng(0).bytes(3_000_000)
SPEC = TensorSpec.of("F32", (250, 1000))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=2)
    yield store
    store.close()


def chunks_of(store, data=DATA):
    manifest = clean(memoryview(data), "m.data", store, "opaque").manifest
    return manifest, StoredChunks(manifest, lambda _, chunk: memoryview(store.read(chunk.digest, chunk.spec)))


def tensor(name, offset, spec=SPEC):
    return ExternalTensor(name, spec, "m.data", offset)


def test_ranges_are_read_across_chunks(store):
    manifest, content = chunks_of(store)
    assert len(manifest.parameters) > 2
    assert is_in_chunks(manifest)
    assert content.nbytes == len(DATA)
    for start, stop in ((0, 10), (0, len(DATA)), (100_000, 2_900_000), (len(DATA) - 1, len(DATA)), (5, 5)):
        assert bytes(content[start:stop]) == DATA[start:stop]
    assert content[7] == DATA[7]


def test_tensors_have_their_own_digests_and_the_file_comes_back_in_chunks(store):
    manifest, content = chunks_of(store)
    file = ExternalFile.of(content, [tensor("b", 1_000_512), tensor("a", 256)])
    known = {}
    made = file.store_tensors(store, known)
    assert made.parameters == file.manifest("opaque", {}).parameters == file.manifest("opaque", known).parameters
    assert made.parameters["a"].digest == tensor_digest(SPEC, DATA[256 : 256 + SPEC.nbytes])
    assert bytes(file.value("b")) == b"".join(file.chunks("b")) == DATA[1_000_512 : 1_000_512 + SPEC.nbytes]
    assert bytes(store.read(made.parameters["b"].digest, SPEC)) == bytes(file.value("b"))
    assert is_of_tensors(made)
    assert in_chunks_again(made, store, "m.data") == manifest
    assert in_chunks_again(manifest, store, "m.data") is manifest
    assert not list(store.root.glob("external-*"))


def test_equal_pieces_are_hashed_once(store):
    manifest, content = chunks_of(store)
    known = {}
    first = ExternalFile.of(content, [tensor("a", 0)]).manifest("onnx", known)

    def read(name, chunk):
        raise AssertionError(f"{name} is read again")

    made = ExternalFile(StoredChunks(manifest, read), (Extent("b", SPEC, 0),))
    made.__dict__["layout"] = ExternalFile.of(content, [tensor("b", 0)]).layout
    assert made.manifest("onnx", known).parameters["b"] == first.parameters["a"]


def test_of_tensors_at_one_place_the_first_counts(store):
    _, content = chunks_of(store)
    file = ExternalFile.of(content, [tensor("tied", 0), tensor("embed", 0), tensor("inside", 999_999)])
    assert list(file.extents) == ["embed"]


def test_a_tensor_outside_the_file_is_refused(store):
    _, content = chunks_of(store)
    with pytest.raises(FormatError, match=r"'a'.*outside"):
        ExternalFile.of(content, [tensor("a", len(DATA) - 4)])


def test_only_some_formats_name_tensors_in_other_files():
    assert has_external_data("onnx")
    assert not has_external_data("safetensors")
