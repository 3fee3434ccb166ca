"""The compiled coder writes frames that zstd decodes, and declines planes that zstd makes smaller."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.coding import kernels, planes
from git_theta_ext.coding.planes import RAW, ZSTD, code_symbols

pytestmark = pytest.mark.skipif(kernels.huffman is None, reason="the package was built without a C compiler")

BLOCK = 1 << 17


def exponents(size, scale=0.02, seed=0):
    """Return the exponents of normal weights."""
    weights = (np.random.default_rng(seed).standard_normal(size) * scale).astype("<f4")
    return (weights.view("<u4") >> 23).astype(np.uint8).tobytes()


def mantissas(size, seed=0):
    """Return mantissas with signs of means of bf16 numbers, of which more are even than odd."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, size, np.uint8)
    return (values & np.where(rng.random(size) < 0.9, 0xFD, 0xFF).astype("u1")).tobytes()


def coded(plane):
    """Return the frame of a plane, which is the same with all instructions."""
    frame = kernels.huffman.encode(plane)
    assert kernels.huffman.encode(plane, 0) == frame
    return frame


def decoded(frame, size):
    assert zstandard.frame_content_size(frame) == size
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)


@pytest.mark.parametrize("size", [1024, 1025, 1026, 1027, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 1023, 2 * BLOCK + 1024])
def test_a_frame_of_any_size_decodes(size):
    plane = exponents(size)
    assert decoded(coded(plane), size) == plane


@pytest.mark.parametrize("size", [BLOCK // 2, BLOCK - 63, BLOCK, BLOCK + 1, 2 * BLOCK + 7, 4 * BLOCK])
def test_a_frame_of_many_symbols_decodes(size):
    plane = mantissas(size)
    assert decoded(coded(plane), size) == plane


@given(st.data())
def test_a_frame_of_any_frequencies_decodes(data):
    size, symbols = data.draw(st.integers(1024, 2 * BLOCK)), data.draw(st.integers(1, 256))
    least = data.draw(st.integers(0, 256 - symbols))
    spread = data.draw(st.sampled_from([0.02, 0.1, 0.5, 1.0, 100.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    drawn = rng.choice(symbols, size, p=rng.dirichlet(np.full(symbols, spread)))
    plane = (least + drawn).astype(np.uint8).tobytes()
    frame = coded(plane)
    assert frame is None or (len(frame) < size and decoded(frame, size) == plane)


def test_codes_longer_than_decoders_accept_are_shortened():
    counts = [1 << n for n in range(16)] + [1 << 14]  # a code without a limit has 16 bits for the rarest
    plane = np.random.default_rng(0).permutation(np.repeat(np.arange(17, dtype=np.uint8), counts)).tobytes()
    assert decoded(coded(plane), len(plane)) == plane


def test_bytes_that_a_sample_misses_are_coded():
    plane = bytearray(exponents(BLOCK))
    plane[100] = max(plane) + 3  # of every 256 bytes the first 64 are counted
    assert decoded(coded(plane), BLOCK) == plane


def test_bytes_of_a_wide_range_that_a_sample_misses_are_coded():
    plane = bytearray(mantissas(2 * BLOCK).replace(b"\x11", b"\x10").replace(b"\x99", b"\x98"))
    plane[100], plane[-1] = 0x11, 0x99
    assert decoded(coded(plane), 2 * BLOCK) == plane


def test_bytes_that_only_the_table_of_the_block_before_has_are_coded():
    first, second = bytearray(exponents(BLOCK)), bytearray(exponents(BLOCK, seed=1))
    for at, byte in ((0, 10), (1, 20), (2, 30)):  # counted in the first block
        first[at] = byte
    second[100], second[101], second[300] = 10, 20, 40  # not among the 64 of 256 that are counted
    for last in (40, 30):
        second[300] = last
        plane = bytes(first + second)
        assert decoded(coded(plane), len(plane)) == plane


def test_tables_of_many_symbols_are_compressed():
    rng = np.random.default_rng(0)
    for symbols in (129, 130, 131, 200, 255, 256):
        for spread in (0.1, 0.5, 1.0, 3.0):
            drawn = rng.choice(symbols, BLOCK, p=rng.dirichlet(np.full(symbols, spread)))
            plane = drawn.astype(np.uint8).tobytes()
            frame = coded(plane)
            assert decoded(frame, BLOCK) == plane
            assert len(frame) < 1.006 * len(planes._tools().huffman.compress(plane))


def test_statistics_that_change_get_their_own_table():
    plane = exponents(2 * BLOCK) + exponents(2 * BLOCK, scale=0.001) + exponents(2 * BLOCK)
    frame = coded(plane)
    assert decoded(frame, len(plane)) == plane
    assert len(frame) < 1.001 * 3 * len(coded(exponents(2 * BLOCK)))


@pytest.mark.parametrize(
    "plane",
    [
        pytest.param(bytes(BLOCK), id="one byte"),
        pytest.param(bytes(BLOCK) + exponents(BLOCK), id="a block of one byte"),
        pytest.param(b"\1\2\3" * 40 + bytes(BLOCK), id="half of it one byte"),
        pytest.param(np.random.default_rng(0).bytes(BLOCK), id="random"),
        pytest.param(
            np.random.default_rng(0).permutation(np.arange(2 * BLOCK) % 256).astype("u1").tobytes(), id="even"
        ),
        pytest.param(exponents(1023), id="small"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_other_planes_are_left_to_zstd(plane):
    assert coded(plane) is None


@pytest.mark.parametrize(
    ("plane", "most"), [(exponents(1 << 19), 1), (exponents(1 << 19, 0.3), 1), (mantissas(1 << 19), 1.001)]
)
def test_a_plane_is_not_larger_than_by_zstd(plane, most, monkeypatch):
    plane = memoryview(plane)
    codec, compiled = code_symbols(plane)
    monkeypatch.setattr(kernels, "huffman", None)
    other, frame = code_symbols(plane)
    assert codec == other == ZSTD
    assert compiled != frame
    assert len(compiled) <= most * len(frame)


def test_what_it_declines_is_coded_by_zstd():
    plane = memoryview(bytes(planes.SMALL + BLOCK))
    codec, frame = code_symbols(plane)
    assert codec == ZSTD
    assert decoded(frame, plane.nbytes) == plane
    assert code_symbols(memoryview(np.random.default_rng(0).bytes(BLOCK)))[0] == RAW


def test_what_is_no_buffer_is_refused():
    for wrong in (4, None, "text"):
        with pytest.raises(TypeError):
            coded(wrong)
