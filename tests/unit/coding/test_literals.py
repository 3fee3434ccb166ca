"""The decoder of exponents gives what zstd gives, and leaves all other frames to zstd."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.coding import kernels, planes, stored_planes
from git_theta_ext.coding.dense import decode_dense, encode_dense
from git_theta_ext.errors import CorruptError
from git_theta_ext.model.tensor import TensorSpec

pytestmark = pytest.mark.skipif(
    kernels.huffman is None or kernels.literals is None, reason="the package was built without a C compiler"
)

BLOCK = 1 << 17


def drawn(size, symbols, spread, seed=0, least=0):
    rng = np.random.default_rng(seed)
    return (least + rng.choice(symbols, size, p=rng.dirichlet(np.full(symbols, spread)))).astype(np.uint8).tobytes()


def by_zstd(frame, size):
    try:
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError:
        return None


@pytest.mark.parametrize("size", [1024, 1025, 1027, 5000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1024, 4 * BLOCK])
@pytest.mark.parametrize(("symbols", "spread"), [(2, 100), (3, 1), (10, 0.3), (30, 0.2), (128, 0.5)])
def test_a_frame_of_the_coder_decodes(size, symbols, spread):
    plane = drawn(size, symbols, spread, least=1)
    frame = kernels.huffman.encode(plane)
    assert frame is None or kernels.literals.decode(frame, size) == plane


def test_tables_that_change_between_blocks_are_taken():
    plane = b"".join(drawn(BLOCK, 20, 0.5, seed=seed, least=10 * seed) for seed in range(4))
    frame = kernels.huffman.encode(plane)
    assert kernels.literals.decode(frame, len(plane)) == plane


def test_other_frames_are_declined():
    plane = drawn(BLOCK, 20, 0.5)
    frame = kernels.huffman.encode(plane)
    wide = kernels.huffman.encode(drawn(BLOCK, 256, 1.0))
    assert kernels.literals.decode(wide, BLOCK) is None
    assert kernels.literals.decode(zstandard.ZstdCompressor().compress(plane), BLOCK) is None
    for size in (BLOCK - 1, BLOCK + 1, 0, -1):
        assert kernels.literals.decode(frame, size) is None
    for cut in (0, 8, 9, 12, 17, 60, len(frame) - 1):
        assert kernels.literals.decode(frame[:cut], BLOCK) is None
    assert kernels.literals.decode(frame + b"\0", BLOCK) is None
    with pytest.raises(TypeError):
        kernels.literals.decode("text", 4)


@given(st.data())
def test_a_damaged_frame_is_declined_or_has_the_bytes_of_zstd(data):
    size = data.draw(st.sampled_from([1500, 4000, BLOCK + 2000]))
    frame = bytearray(kernels.huffman.encode(drawn(size, 20, 0.5, seed=data.draw(st.integers(0, 5)))))
    for _ in range(data.draw(st.integers(1, 3))):
        last = data.draw(st.sampled_from([16, 40, len(frame) - 1]))
        frame[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    plane = kernels.literals.decode(bytes(frame), size)
    assert plane is None or plane == by_zstd(bytes(frame), size)


def values_of(count, frames, seed=0):
    """Return exponents and tops as they are stored, some in frames, and the values."""
    parts = [drawn(count, 20, 0.5, seed, least=100), drawn(count, 100, 1.0, seed + 1)]
    values = bytearray(2 * count)
    kernels.join_exponents(*parts, b"", memoryview(values), 2)
    return [kernels.huffman.encode(part) if coded else part for part, coded in zip(parts, frames, strict=True)], values


@pytest.mark.parametrize("count", [1024, BLOCK - 1, BLOCK, 2 * BLOCK + 1024])
@pytest.mark.parametrize("frames", [(True, False), (False, True), (True, True), (False, False)])
def test_values_are_joined_from_frames_and_planes(count, frames):
    (exponents, tops), values = values_of(count, frames)
    out = bytearray(len(values))
    assert kernels.literals.join(exponents, frames[0], tops, frames[1], out)
    assert out == values


def test_values_are_not_joined_from_what_does_not_fit():
    (exponents, tops), values = values_of(BLOCK + 1024, (True, True))
    out = bytearray(len(values))
    for cut in (0, 8, 9, 60, -1):
        assert not kernels.literals.join(exponents, True, tops[:cut], True, out)
        assert not kernels.literals.join(exponents[:cut], True, tops, True, out)
    assert not kernels.literals.join(exponents + b"\0", True, tops, True, out)
    assert not kernels.literals.join(exponents, True, tops, True, out[:-2])
    assert not kernels.literals.join(b"", True, b"", True, bytearray())
    for wrong in (
        (exponents, False, tops, True, out),
        (exponents, True, tops, False, out),
        (tops, True, tops, True, out[1:]),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.literals.join(*wrong)


@given(st.data())
def test_values_of_a_damaged_frame_are_declined_or_those_of_zstd(data):
    count, frames = data.draw(st.sampled_from([1500, BLOCK + 2000])), (True, data.draw(st.booleans()))
    (exponents, tops), values = values_of(count, frames)
    damaged = bytearray(exponents)
    for _ in range(data.draw(st.integers(1, 3))):
        last = data.draw(st.sampled_from([16, 40, len(damaged) - 1]))
        damaged[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    out, expected = bytearray(len(values)), bytearray(len(values))
    if kernels.literals.join(damaged, True, tops, frames[1], out):
        tops = by_zstd(tops, count) if frames[1] else tops
        kernels.join_exponents(by_zstd(bytes(damaged), count), tops, b"", memoryview(expected), 2)
        assert out == expected


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_chunks_decode_to_the_same_with_and_without_the_decoder(dtype, monkeypatch):
    normal = np.random.default_rng(0).normal(0, 0.02, 3 * BLOCK).astype("<f4")
    data = normal.tobytes() if dtype == "F32" else (normal.view("<u4") >> 16).astype("<u2").tobytes()
    spec = TensorSpec.of(dtype, (3 * BLOCK,))
    payload = memoryview(b"".join(map(bytes, encode_dense(spec, memoryview(data)))))
    for decoder in (kernels.literals, None):
        monkeypatch.setattr(kernels, "literals", decoder)
        out = bytearray(len(data))
        decode_dense(spec, payload, memoryview(out))
        assert out == data
        for damaged in (payload[:-1], bytes(payload) + b"\0"):
            with pytest.raises(CorruptError):
                decode_dense(spec, memoryview(damaged), memoryview(out))


def test_planes_are_read_by_the_decoder(monkeypatch):
    plane = memoryview(drawn(BLOCK, 20, 0.5))
    payload = memoryview(b"".join(planes.write_planes(b"", [planes.code_symbols(plane), (planes.RAW, plane)])))
    monkeypatch.setattr(stored_planes, "_decompress", None)
    assert [bytes(each) for each in stored_planes.read_planes(payload, [BLOCK, BLOCK])] == [plane, plane]


def test_without_the_decoder_zstd_reads_the_same(monkeypatch):
    plane = memoryview(drawn(BLOCK, 20, 0.5))
    payload = b"".join(planes.write_planes(b"", [planes.code_symbols(plane)]))
    for decoder in (kernels.literals, None):
        monkeypatch.setattr(kernels, "literals", decoder)
        assert bytes(stored_planes.read_planes(memoryview(payload), [BLOCK])[0]) == plane
        with pytest.raises(CorruptError):
            stored_planes.read_planes(memoryview(payload), [BLOCK + 1])
