"""Many small tensors that are hashed at the same time have the digests that each has alone."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.coding import tensor_digests as module
from git_theta_ext.coding.tensor_digests import tensor_digests, together, wrong_member
from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.tensor import TensorSpec, tensor_digest

COMPILED = pytest.mark.skipif(together is None, reason="no C compiler, or a processor without AVX-512")
BLOCK, CHUNK = 64, 1024


@pytest.fixture(params=[pytest.param("compiled", marks=COMPILED), "package"])
def either(request, monkeypatch):
    if request.param == "package":
        monkeypatch.setattr(module, "together", None)


def values_of(spec, count):
    return np.random.default_rng([spec.nbytes, count]).bytes(spec.nbytes * count)


def each(spec, data):
    parts = [data[at : at + spec.nbytes] for at in range(0, len(data), spec.nbytes)]
    return bytes.fromhex("".join(tensor_digest(spec, part) for part in parts))


def sizes():
    """Return sizes at which the last block, the last chunk or a subtree of chunks is just full, or one byte from it."""
    head = len(TensorSpec.of("U8", (CHUNK,)).hashed)
    ends = [BLOCK, CHUNK, CHUNK + BLOCK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK, 5 * CHUNK, 8 * CHUNK, 15 * CHUNK]
    return [1, 3, *(end - head + off for end in ends for off in (-1, 0, 1)), 1 << 14, (1 << 14) + 1]


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("nbytes", sizes())
def test_tensors_have_the_digests_that_each_has_alone(nbytes):
    spec = TensorSpec.of("U8", (nbytes,))
    data = values_of(spec, 19)
    assert tensor_digests(spec, memoryview(data)) == each(spec, data)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("count", [1, 5, 6, 15, 16, 17, 32, 33])
def test_any_number_of_tensors_is_hashed(count):
    spec = TensorSpec.of("BF16", (2, 1100))
    data = values_of(spec, count)
    assert tensor_digests(spec, memoryview(data)) == each(spec, data)


@COMPILED
def test_many_dimensions_are_hashed_before_the_bytes():
    spec = TensorSpec.of("U8", (1,) * 63 + (10,))
    data = values_of(spec, 8)
    assert together.digests(spec.hashed, data, spec.nbytes) == each(spec, data)


@COMPILED
@pytest.mark.parametrize(
    ("data", "nbytes"), [(bytes(10), 3), (bytes(10), 0), (bytes(10), -5), (bytes(1 << 21), 1 << 21)]
)
def test_buffers_of_other_sizes_are_refused(data, nbytes):
    with pytest.raises(ValueError, match="sizes"):
        together.digests(b"head", data, nbytes)


@COMPILED
def test_no_tensors_have_no_digests():
    assert together.digests(b"head", b"", 4) == b""


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("place", range(8))
def test_the_bytes_of_a_bundle_are_compared_with_each_tensor(place):
    specs = [TensorSpec.of("F32", (3, 4))] * 7 + [TensorSpec.of("F32", (5,))]
    values = [values_of(spec, 1) for spec in specs]
    names = [tensor_digest(spec, value) for spec, value in zip(specs, values, strict=True)]
    bundle = Bundle.of(list(zip(specs, names, strict=True)))
    data = bytearray(b"".join(values))
    assert wrong_member(bundle, data) is None
    data[place * specs[0].nbytes + 5] ^= 1
    assert wrong_member(bundle, data) == names[place]
