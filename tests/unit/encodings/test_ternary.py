from contextlib import suppress
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from updates import REALS, Memory, chunk_of, golden, round_trip, stored_size, tensor, values_of

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing.encodings import EncodingTests
from git_theta_plugins.encodings import ternary
from git_theta_plugins.encodings.ternary import ENCODING


def moved(name, shape, density, scale=0.0021):
    """Return a tensor, and its parent, of which a share moved up or down by the same amount."""
    rng = np.random.default_rng(6)
    signs = np.where(rng.random(shape) < density, rng.choice([-1, 1], shape), 0)
    parent = values_of(name, shape)
    return tensor(name, parent + scale * signs), tensor(name, parent)


class TestTernary(EncodingTests):
    encoding = ENCODING
    specs = REALS
    params = MappingProxyType({"scale": 0.0021})
    grows = False


@pytest.mark.parametrize("name", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("density", [0.01, 0.05, 0.2, 0.5])
def test_elements_that_moved_by_one_amount_take_little_more_than_their_signs(name, density):
    target, parent = moved(name, (300, 200), density)
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert abs(fit.params["scale"] - 0.0021) < 1e-5
    ideal = -(1 - density) * np.log2(1 - density) - density * np.log2(density / 2)
    assert stored_size(ENCODING, fit, target, parent) * target.spec.dtype.bits < 1.1 * ideal + 0.02


def test_a_chunk_that_did_not_move_like_the_sampled_ones_takes_no_room_for_signs():
    _, parent = moved("F8_E4M3", (300, 200), 0.2)
    noise = np.random.default_rng(8).bytes(parent.spec.nbytes)
    assert round_trip(ENCODING, Fit({"scale": 0.0021}), Memory(parent.spec, noise), parent) < len(noise) + 100


def test_an_amount_in_float64_is_found_as_far_as_float64_can_tell():
    target, parent = moved("F64", (300, 200), 0.2)
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert stored_size(ENCODING, fit, target, parent) < 2 / 64


def test_vectors_and_chunks_of_any_size_come_back():
    target, parent = moved("BF16", (5003,), 0.3)
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    round_trip(ENCODING, fit, target, parent, piece=1234)


@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_noise_an_equal_parent_and_few_changes_are_rejected(name):
    target, parent = moved(name, (64, 64), 0.2)
    noise = np.random.default_rng(9).standard_normal((64, 64)) * 1e-3
    assert ENCODING.fit(tensor(name, values_of(name, (64, 64)) + noise), parent) is None
    assert ENCODING.fit(target, target) is None
    assert ENCODING.fit(*moved(name, (64, 64), 0.005)) is None


def test_integers_and_parents_of_another_shape_are_rejected():
    spec = TensorSpec.of("I32", (64, 64))
    assert ENCODING.fit(Memory(spec, bytes(spec.nbytes)), Memory(spec, bytes([1]) * spec.nbytes)) is None
    assert ENCODING.fit(tensor("F32", values_of("F32", (64, 64))), tensor("F32", values_of("F32", (32, 64)))) is None


def test_elements_that_did_not_move_keep_every_bit():
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 1] * 20, "<u4")
    spec = TensorSpec.of("F32", (120,))
    odd = Memory(spec, bits.tobytes())
    payload = b"".join(bytes(each) for each in ENCODING.encode(chunk_of(odd, Fit({"scale": 1e-3})), odd.read()))
    assert payload[-1:] == b"\0", "no residual"
    round_trip(ENCODING, Fit({"scale": 1e-3}), odd, odd)


@given(st.binary(min_size=96, max_size=96), st.binary(min_size=96, max_size=96), st.floats(1e-30, 1e30))
def test_any_bytes_come_back_from_any_parent_and_any_scale(data, base, scale):
    for name, width in (("BF16", 2), ("F32", 4), ("F16", 2), ("F64", 8), ("F8_E4M3", 1)):
        spec = TensorSpec.of(name, (96 // width,))
        round_trip(ENCODING, Fit({"scale": scale}), Memory(spec, data), Memory(spec, base))


@pytest.mark.parametrize("params", [{}, {"scale": 0.0}, {"scale": -1.0}, {"scale": float("nan")}, {"scale": None}])
def test_a_scale_that_makes_no_sense_is_refused(params):
    parent = tensor("BF16", values_of("BF16", (6, 8)))
    with pytest.raises(CorruptError, match="scale"):
        ENCODING.decode(chunk_of(parent, Fit(params)), memoryview(b""), memoryview(bytearray(96)))


def test_a_damaged_payload_is_refused_or_decodes_to_something_of_the_same_size():
    target, parent = moved("BF16", (32, 32), 0.05)
    chunk = chunk_of(parent, Fit({"scale": 0.0021}))
    payload = b"".join(bytes(memoryview(each).cast("B")) for each in ENCODING.encode(chunk, target.read()))
    for at in range(len(payload)):
        bad = payload[:at] + bytes([payload[at] ^ 255]) + payload[at + 1 :]
        for each in (bad, payload[:at], bad + b"x"):
            with suppress(CorruptError):
                ENCODING.decode(chunk, memoryview(each), memoryview(bytearray(target.spec.nbytes)))


@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_payloads_of_the_first_version_still_decode(name):
    found, data = golden(ENCODING, name)
    assert found == data


def test_a_look_at_some_elements_rules_out_nothing_that_all_of_them_support(monkeypatch):
    rng = np.random.default_rng(0)
    parent = values_of("BF16", (6000,))
    found = set()
    for agreeing in np.linspace(0.86, 0.94, 60):
        steps = np.where(rng.random(6000) < agreeing, 0.5, rng.uniform(1, 100, 6000))
        if rng.random() < 0.5:
            steps = np.sort(steps)  # those that disagree are next to each other
        target, base = tensor("BF16", parent + steps), tensor("BF16", parent)
        fits = []
        for glance in (1 << 20, 1 << 9):
            monkeypatch.setattr(ternary, "_GLANCE", glance)
            fits.append(ENCODING.fit(target, base))
        assert fits[0] == fits[1]
        found.add(fits[0] is None)
        monkeypatch.undo()
    assert found == {True, False}
