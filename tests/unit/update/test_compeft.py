"""Task vectors reduced to signs: which elements are kept, the file, and what it gives back."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.interfaces import UpdateFile
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.compeft_file import file_head
from git_theta_ext.update.compress import ComparedParameter, Fidelity, select, write_signs
from git_theta_ext.update.files import read_update
from git_theta_ext.update.read import read_changes
from git_theta_ext.update.value import new_value
from git_theta_plugins.updates.compeft import read_compeft


def pairs_of(deltas):
    """Return models that differ by the given float32 arrays, in chunks of three elements."""

    def pair(name, delta):
        old, new = np.zeros_like(delta), delta

        def chunks():
            for start in range(0, delta.size, 3):
                yield memoryview(old[start : start + 3]).cast("B"), memoryview(new[start : start + 3]).cast("B")

        return ComparedParameter(name, TensorSpec.of("F32", delta.shape), chunks)

    return [pair(name, np.asarray(delta, "<f4")) for name, delta in deltas.items()]


def one_chunk(name, delta):
    data = memoryview(np.asarray(delta, "<f4")).cast("B")
    return ComparedParameter(
        name, TensorSpec.of("F32", (len(delta),)), lambda: [(memoryview(bytes(data.nbytes)), data)]
    )


def compressed(pairs, density, scale=0.5) -> UpdateFile:
    signs = io.BytesIO()
    fidelities = write_signs(pairs, select(pairs, density), signs)
    sizes = {name: found.nbytes for name, found in fidelities.items() if found.kept}
    head = file_head({pair.name: pair.spec.shape for pair in pairs}, sizes, scale, density, 1.0)
    return read_update(memoryview(head + signs.getvalue()), "update")


@given(
    st.lists(st.floats(-1, 1, width=32).map(lambda x: round(x, 2)), min_size=1, max_size=40),
    st.floats(0.01, 1),
)
def test_selected_elements_are_the_largest(values, density):
    delta = np.array(values, "<f4")
    pairs = pairs_of({"w": delta})
    found = write_signs(pairs, select(pairs, density), io.BytesIO())["w"]
    wanted = min(max(1, round(density * delta.size)), np.count_nonzero(delta))
    assert found.kept == wanted
    assert found.magnitudes == pytest.approx(np.sort(np.abs(delta.astype("f8")))[::-1][:wanted].sum())
    assert select(pairs, density).deviation == pytest.approx(delta.astype("f8").std(), abs=1e-12)


def test_share_is_of_the_whole_model():
    pairs = pairs_of({"a": [1, -2, 3, 4], "b": [0.1, 0.2, 0.3, 0.4]})
    fidelities = write_signs(pairs, select(pairs, 0.5), io.BytesIO())
    assert (fidelities["a"].kept, fidelities["b"].kept) == (4, 0)


def test_of_equal_elements_the_first_are_kept():
    pairs = pairs_of({"a": [1, -1, 1, -1, 1], "b": [1, 1]})
    fidelities = write_signs(pairs, select(pairs, 3 / 7), io.BytesIO())
    assert (fidelities["a"].kept, fidelities["b"].kept) == (3, 0)


def test_nan_is_an_error_that_names_the_parameter():
    with pytest.raises(FormatError, match="'w'"):
        select(pairs_of({"w": [1, math.nan]}), 0.5)


def test_file_gives_the_old_value_moved_by_the_signs():
    delta = np.array([3, -1, 0, -4, 2, 0.5], "<f4")
    change = read_compeft(compressed([one_chunk("w", delta)], 0.5), {"w": TensorSpec.of("F32", (6,))})["w"]
    old = np.array([1, 2, 3, 4, -0.0, math.inf], "<f4")
    found = np.frombuffer(new_value(change, TensorSpec.of("F32", (6,)), memoryview(old.tobytes()), 1), "<f4")
    assert found.tobytes() == np.array([1.5, 2, 3, 3.5, 0.5, math.inf], "<f4").tobytes()
    assert (change.encoding, dict(change.fit.params)) == ("ternary", {"scale": 0.5})


@pytest.mark.parametrize("density", [0.01, 0.05, 0.3])
def test_file_is_within_a_tenth_of_the_ideal(density):
    delta = np.random.default_rng(0).normal(0, 1, 1 << 18)
    pairs = [one_chunk("w", delta)]
    fidelities = write_signs(pairs, select(pairs, density), io.BytesIO())["w"]
    k = density
    ideal = -(1 - k) * math.log2(1 - k) - k * math.log2(k / 2)
    assert fidelities.ideal_bits == pytest.approx(ideal * delta.size, rel=1e-3)
    assert fidelities.nbytes * 8 <= 1.1 * fidelities.ideal_bits


def test_fidelity_is_what_numpy_says():
    delta = np.random.default_rng(1).normal(0, 1, 1000).astype("<f4")
    pairs, scale = [one_chunk("w", delta)], 0.7
    selection = select(pairs, 0.2)
    found = write_signs(pairs, selection, io.BytesIO())["w"]
    signs = np.where(np.abs(delta) >= np.sort(np.abs(delta))[-200], np.sign(delta), 0).astype("f8")
    norm = np.linalg.norm(delta.astype("f8"))
    assert found.relative_error(scale) == pytest.approx(np.linalg.norm(delta - scale * signs) / norm)
    assert found.cosine == pytest.approx(delta @ signs / norm / np.linalg.norm(signs))
    assert found.relative_error(found.best_scale) <= found.relative_error(found.best_scale * 1.01)


def test_fidelity_of_nothing_is_nothing():
    assert (Fidelity(4).relative_error(1.0), Fidelity(4).cosine, Fidelity().ideal_bits) == (0.0, 0.0, 0.0)


def test_unchanged_parameter_is_not_in_the_file():
    file = compressed(pairs_of({"a": [1, 2], "b": [0, 0]}), 1.0)
    assert set(file.tensors) == {"a"}


SPEC = {"w": TensorSpec.of("F32", (6,))}
GOOD = compressed([one_chunk("w", np.arange(6))], 0.5)


@pytest.mark.parametrize(
    "metadata",
    [
        {"kind": "other"},
        {"scale": "nan"},
        {"scale": "inf"},
        {"scale": "0"},
        {"scale": "-1"},
        {"scale": "much"},
        {"shapes": "[]"},
        {"shapes": "{"},
        {"shapes": "{}"},
        {"shapes": json.dumps({"w": [7]})},
    ],
)
def test_metadata_that_makes_no_sense_is_refused(metadata):
    with pytest.raises(FormatError, match=r"^update: "):
        read_changes("compeft", UpdateFile("update", GOOD.tensors, {**GOOD.metadata, **metadata}), SPEC)


@pytest.mark.parametrize("size", [0, 3, 5, -1])
def test_signs_that_are_cut_short_are_refused(size):
    whole = GOOD.tensors["w"]
    short = UpdateFile("update", {"w": type(whole)(whole.spec, whole.data[:size])}, GOOD.metadata)
    with pytest.raises(FormatError, match="'w'"):
        new_value(read_compeft(short, SPEC)["w"], SPEC["w"], memoryview(bytes(24)), 1)


@given(st.data())
def test_damaged_signs_are_an_error_or_other_signs(data):
    whole = bytearray(GOOD.tensors["w"].data)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    bad = UpdateFile("update", {"w": type(GOOD.tensors["w"])(GOOD.tensors["w"].spec, memoryview(whole))}, GOOD.metadata)
    try:
        found = new_value(read_compeft(bad, SPEC)["w"], SPEC["w"], memoryview(bytes(24)), 1)
    except FormatError:
        return
    assert set(np.frombuffer(found, "<f4").tolist()) <= {0.0, 0.5, -0.5}


def test_parameter_that_is_not_there_or_no_float_is_refused():
    with pytest.raises(UsageError, match="'w'"):
        read_compeft(GOOD, {"v": SPEC["w"]})
    with pytest.raises(FormatError, match="'w'"):
        read_compeft(GOOD, {"w": TensorSpec.of("I64", (6,))})
