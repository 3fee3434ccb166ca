from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from updates import REALS, ROWS, Memory, chunk_of, golden, round_trip, stored_size, tensor, values_of

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Fit
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing.encodings import EncodingTests
from git_theta_plugins.encodings import scale
from git_theta_plugins.encodings.scale import ENCODING


def multiplied(name, shape, axis):
    """Return a tensor, its parent and the numbers that its slices were multiplied by."""
    parent = values_of(name, shape)
    numbers = (1 + np.random.default_rng(2).standard_normal(shape[axis]) * 0.1).astype(np.float32)
    along = [1] * len(shape)
    along[axis] = -1
    return tensor(name, parent * numbers.reshape(along)), tensor(name, parent), numbers


def multipliers(numbers):
    return ((TensorSpec.of("F32", numbers.shape), numbers.astype("<f4").tobytes()),)


class TestScale(EncodingTests):
    encoding = ENCODING
    specs = REALS
    params = MappingProxyType({"axis": 0})
    grows = False

    def spec(self, name, elements):
        return TensorSpec.of(name, (ROWS, elements // ROWS))

    def whole_bases(self, spec):
        ((of, data),) = multipliers(np.linspace(-1, 1, spec.shape[0]))
        return (Base(of, memoryview(data)),)


@pytest.mark.parametrize("name", ["BF16", "F16", "F32", "F8_E4M3"])
@pytest.mark.parametrize(("shape", "axis"), [((96, 256), 0), ((256, 96), 1), ((32, 8, 3, 3), 0), ((32, 8, 3, 3), 1)])
def test_multiplied_slices_are_found_and_take_next_to_nothing(name, shape, axis):
    target, parent, _ = multiplied(name, shape, axis)
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert fit.params == {"axis": axis}
    assert stored_size(ENCODING, fit, target, parent) < 4.5 * shape[axis] / target.spec.nbytes + 0.02


def test_a_slice_that_somebody_edited_does_not_hide_the_others():
    target, parent, _ = multiplied("F32", (64, 128), 0)
    data = np.frombuffer(target.data, "<f4").copy()
    data[[5, 1000]] = 9
    target = Memory(target.spec, data.tobytes())
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert stored_size(ENCODING, fit, target, parent) < 0.05


@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_noise_an_equal_parent_and_vectors_are_rejected(name):
    target, parent, _ = multiplied(name, (64, 64), 0)
    noise = np.random.default_rng(9).standard_normal((64, 64)) * 1e-3
    assert ENCODING.fit(tensor(name, values_of(name, (64, 64)) + noise), parent) is None
    assert ENCODING.fit(target, target) is None
    assert ENCODING.fit(tensor(name, values_of(name, 64)), tensor(name, values_of(name, 64, seed=1))) is None


def test_integers_and_parents_of_another_shape_are_rejected():
    spec = TensorSpec.of("I32", (64, 64))
    assert ENCODING.fit(Memory(spec, bytes(spec.nbytes)), Memory(spec, bytes([1]) * spec.nbytes)) is None
    assert ENCODING.fit(tensor("F32", values_of("F32", (64, 64))), tensor("F32", values_of("F32", (32, 64)))) is None


@pytest.mark.parametrize("piece", [4, 20, 40_000])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_chunk_may_begin_and_end_anywhere(piece, axis):
    target, parent, numbers = multiplied("F32", (7, 5, 3), axis)
    fit = Fit({"axis": axis}, multipliers(numbers))
    payloads = -(-target.spec.nbytes // piece)
    assert round_trip(ENCODING, fit, target, parent, piece) == payloads, "all is predicted, at a byte a chunk"


@given(st.binary(min_size=96, max_size=96), st.binary(min_size=96, max_size=96), st.binary(min_size=24, max_size=24))
def test_any_bytes_come_back_from_any_parent_and_any_multipliers(data, base, numbers):
    for name, columns in (("BF16", 8), ("F32", 4), ("F16", 8), ("F64", 2), ("F8_E4M3FNUZ", 16)):
        spec = TensorSpec.of(name, (6, columns))
        fit = Fit({"axis": 0}, ((TensorSpec.of("F32", (6,)), numbers),))
        round_trip(ENCODING, fit, Memory(spec, data), Memory(spec, base))


@pytest.mark.parametrize("params", [{}, {"axis": 2}, {"axis": -1}, {"axis": True}, {"axis": "0"}])
def test_an_axis_that_makes_no_sense_is_refused(params):
    parent = tensor("BF16", values_of("BF16", (6, 8)))
    with pytest.raises(CorruptError, match="axis"):
        ENCODING.predict(chunk_of(parent, Fit(params, multipliers(np.ones(6)))), memoryview(bytearray(96)))


@pytest.mark.parametrize("numbers", [np.ones(8), np.ones((6, 1)), np.ones(0)])
def test_multipliers_that_do_not_fit_are_refused(numbers):
    parent = tensor("BF16", values_of("BF16", (6, 8)))
    with pytest.raises(CorruptError):
        ENCODING.predict(chunk_of(parent, Fit({"axis": 0}, multipliers(numbers))), memoryview(bytearray(96)))


@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_payloads_of_the_first_version_still_decode(name):
    found, data = golden(ENCODING, name)
    assert found == data


@pytest.mark.parametrize("axis", [0, 1])
def test_a_look_at_some_elements_rules_out_nothing_that_all_of_them_support(axis, monkeypatch):
    target, parent, _ = multiplied("BF16", (60, 70), axis)
    found = set()
    for others in range(12):
        values = np.frombuffer(target.data, "<u2").reshape(60, 70).copy()
        values[tuple([slice(None), slice(others)][:: 1 - 2 * (axis == 0)])] ^= 1 << 9
        changed = Memory(target.spec, values.tobytes())
        fits = []
        for each in (1, scale._EACH):
            monkeypatch.setattr(scale, "_EACH", each)
            fits.append(ENCODING.fit(changed, parent))
        assert fits[0] == fits[1]
        found.add(fits[0] is None)
        monkeypatch.undo()
    assert found == {True, False}
