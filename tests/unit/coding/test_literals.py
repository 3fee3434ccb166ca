"""The decoder of exponents gives what zstd gives, and leaves all other frames to zstd."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.coding import kernels, planes
from git_theta_ext.errors import CorruptError

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


def test_planes_are_read_by_the_decoder(monkeypatch):
    plane = memoryview(drawn(BLOCK, 20, 0.5))
    payload = memoryview(b"".join(planes.write_planes(b"", [planes.code_symbols(plane), (planes.RAW, plane)])))
    monkeypatch.setattr(planes, "_decompress", None)
    assert [bytes(each) for each in planes.read_planes(payload, [BLOCK, BLOCK])] == [plane, plane]


def test_without_the_decoder_zstd_reads_the_same(monkeypatch):
    plane = memoryview(drawn(BLOCK, 20, 0.5))
    payload = b"".join(planes.write_planes(b"", [planes.code_symbols(plane)]))
    for decoder in (kernels.literals, None):
        monkeypatch.setattr(kernels, "literals", decoder)
        assert bytes(planes.read_planes(memoryview(payload), [BLOCK])[0]) == plane
        with pytest.raises(CorruptError):
            planes.read_planes(memoryview(payload), [BLOCK + 1])
