import numpy as np
import pytest
from blake3 import blake3

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tensor import TensorHasher, TensorSpec, digest_of, is_digest, skeleton_spec, tensor_digest


def test_size_counts_elements_of_any_width():
    assert TensorSpec.of("F32", (2, 3)).nbytes == 24
    assert TensorSpec.of("F4", (2, 3)).nbytes == 3
    assert TensorSpec.of("F64", ()).nbytes == 8
    assert TensorSpec.of("F32", (0, 7)).nbytes == 0


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("F4", (3,)),
        ("F32", (-1,)),
        ("F32", (1 << 60,)),
        ("U8", (1 << 40, 1 << 40)),
        ("U8", (1,) * 65),
        ("U8", (0, 1 << 64)),
    ],
)
def test_impossible_shapes_are_refused(kind, shape):
    with pytest.raises(FormatError):
        TensorSpec.of(kind, shape)


@pytest.mark.parametrize(
    ("kind", "nbytes"), [("F32", 1 << 21), ("BF16", 1 << 20), ("F4", 1 << 18), ("F6_E2M3", 393216)]
)
def test_a_chunk_is_half_a_million_elements(kind, nbytes):
    assert TensorSpec.of(kind, (8,)).chunk_bytes == nbytes


def test_chunks_of_very_wide_elements_stay_small_and_whole():
    spec = TensorSpec.of("opaque272:Q8_0", (1000,))
    assert spec.chunk_bytes <= 1 << 22
    assert spec.chunk_bytes % 34 == 0


def test_the_digest_tells_type_and_shape_apart():
    data = bytes(24)
    digests = {
        tensor_digest(TensorSpec.of(*spec), data)
        for spec in [("F32", (2, 3)), ("F32", (3, 2)), ("F32", (6,)), ("I32", (6,)), ("F64", (3,))]
    }
    assert len(digests) == 5
    assert all(is_digest(digest) for digest in digests)


def test_the_digest_is_written_down_for_ever():
    assert (
        tensor_digest(TensorSpec.of("F32", (2, 3)), bytes(range(24)))
        == blake3(b"git-theta tensor 1\nF32 [2,3]\n" + bytes(range(24))).hexdigest()
    )
    assert tensor_digest(skeleton_spec(3), b"abc") == blake3(b"abc").hexdigest()


def test_pieces_and_array_views_give_the_digest_of_the_whole():
    values = np.arange(1000, dtype="<f4")
    spec = TensorSpec.of("F32", (1000,))
    hasher = TensorHasher(spec)
    hasher.update(values[:10].data)
    hasher.update(b"")
    hasher.update(values[10:].tobytes())
    assert hasher.digest() == tensor_digest(spec, values.data, threads=2)


def test_a_wrong_number_of_bytes_is_refused():
    with pytest.raises(FormatError, match="23 bytes"):
        tensor_digest(TensorSpec.of("F32", (2, 3)), bytes(23))


def test_equal_digests_that_are_read_are_one_object():
    raw = bytes(range(32))
    assert digest_of(raw) == raw.hex()
    assert digest_of(bytes(bytearray(raw))) is digest_of(raw)
