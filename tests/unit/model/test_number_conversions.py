"""Conversions are checked against torch's casts, exhaustively where a type is small enough."""

import numpy as np
import pytest
import torch

from git_theta_ext.errors import FormatError
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import components, from_float, largest, to_float

EIGHT_BITS = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
SIXTEEN_BITS = {"BF16": torch.bfloat16, "F16": torch.float16}


def _same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    kept = ~np.isnan(ours)
    assert ours[kept].tobytes() == theirs[kept].tobytes()


def _awkward() -> np.ndarray:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    scales = rng.normal(size=100_000) * 2.0 ** rng.integers(-20, 12, 100_000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-45, 448, 464, 465, 480, 240, 248, 57344, 61440, 65520]
    # Exact halves between neighbours of the narrow types: ties to even.
    halves = np.arange(-4096, 4096) / 512
    parts = (bits.view(np.float32), scales, special, np.negative(special), halves)
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_every_code_of_an_eight_bit_float_reads_as_in_torch(name):
    codes = torch.arange(256, dtype=torch.uint8)
    _same(to_float(codes.numpy(), dtype(name)), codes.view(EIGHT_BITS[name]).to(torch.float32).numpy())


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_every_code_of_a_sixteen_bit_float_reads_as_in_torch(name):
    codes = np.arange(1 << 16, dtype=np.uint16)
    expected = torch.from_numpy(codes.view(np.int16)).view(SIXTEEN_BITS[name]).to(torch.float32).numpy()
    _same(to_float(codes.tobytes(), dtype(name)), expected)


@pytest.mark.parametrize("name", EIGHT_BITS | SIXTEEN_BITS)
def test_rounding_agrees_with_torch(name):
    values = _awkward()
    cast = torch.from_numpy(values).to((EIGHT_BITS | SIXTEEN_BITS)[name])
    written = from_float(values, dtype(name))
    _same(to_float(written, dtype(name)), cast.to(torch.float32).numpy())


@pytest.mark.parametrize("name", [*EIGHT_BITS, *SIXTEEN_BITS, "F32", "F64", "C64", "C128"])
def test_values_survive_the_way_there_and_back(name):
    kind = dtype(name)
    data = np.random.default_rng(1).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    values = to_float(data, kind)
    assert values.size == 4096 * 8 // kind.bits * components(kind)
    finite = np.where(np.isfinite(values), values, 1)
    again = from_float(finite, kind)
    assert np.array_equal(to_float(again, kind), finite)
    if name in {"F64", "C128"}:
        assert finite.dtype == np.float64
        assert np.frombuffer(again, np.float64).tobytes() == finite.tobytes()


def test_the_result_does_not_share_memory_with_the_input():
    data = bytearray(np.ones(4, np.float32).tobytes())
    values = to_float(data, dtype("F32"))
    data[:] = bytes(16)
    assert values.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["I64", "BOOL", "F4", "F8_E8M0", "opaque32"])
def test_types_without_arithmetic_are_refused_by_name(name):
    with pytest.raises(FormatError, match=name):
        to_float(bytes(16), dtype(name))
    with pytest.raises(FormatError, match=name):
        from_float(np.zeros(1, np.float32), dtype(name))


@pytest.mark.parametrize("name", EIGHT_BITS | SIXTEEN_BITS)
def test_the_largest_value_is_torchs(name):
    assert largest(dtype(name)) == torch.finfo((EIGHT_BITS | SIXTEEN_BITS)[name]).max
