"""Updates of single elements."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import floats, update_of

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.read import read_changes
from git_theta_ext.update.value import new_value
from git_theta_plugins.updates.sparse import read_sparse

SPECS = {
    "w": TensorSpec.of("F32", (3, 4)),
    "h": TensorSpec.of("BF16", (8,)),
    "i": TensorSpec.of("I64", (5,)),
    "s": TensorSpec.of("F32", ()),
    "long": TensorSpec.of("F32", ((1 << 19) + 10,)),
}


def integers(values, kind="I64"):
    array = np.array(values, {"I64": "<i8", "I32": "<i4"}[kind])
    return kind, array.shape, array.tobytes()


def result(tensors, name, old, mode=None):
    changes = read_sparse(update_of(tensors, metadata={"mode": mode} if mode else None), SPECS)
    assert changes[name].encoding == "delta"
    return bytes(new_value(changes[name], SPECS[name], memoryview(old), 2))


@pytest.mark.parametrize(
    "indices",
    [integers([7, 2]), integers([7, 2], "I32"), integers([[1, 3], [0, 2]]), integers([[1, 3], [0, 2]], "I32")],
)
def test_elements_are_set_by_flat_places_or_by_several_numbers(indices):
    old = np.arange(12, dtype="<f4")
    found = result({"w.indices": indices, "w.values": floats((2,), 3)}, "w", old.tobytes())
    expected = old.copy()
    expected[[7, 2]] = np.frombuffer(floats((2,), 3)[2], "<f4")
    assert found == expected.tobytes()


def test_elements_are_added_to_and_rounded_once():
    old = np.full(8, 0x3F80, "<u2")  # 1.0
    found = result(
        {"h.indices": integers([3, 4]), "h.values": ("BF16", (2,), np.array([0x3C00, 0x3B80], "<u2").tobytes())},
        "h",
        old.tobytes(),
        "add",
    )
    # 1 + 2^-7 is the next number; 1 + 2^-8 lies half way to it, and the even one is 1.
    assert np.frombuffer(found, "<u2").tolist() == [0x3F80] * 3 + [0x3F81] + [0x3F80] * 4


def test_integers_and_scalars_are_set():
    assert result({"i.indices": integers([4]), "i.values": integers([-1])}, "i", bytes(40)) == bytes(32) + b"\xff" * 8
    assert result({"s.indices": integers([0]), "s.values": floats((1,), 5)}, "s", bytes(4)) == floats((1,), 5)[2]


def test_places_on_both_sides_of_a_chunk_are_found():
    places = [0, (1 << 19) - 1, 1 << 19, (1 << 19) + 9]
    old = np.zeros((1 << 19) + 10, "<f4")
    found = result({"long.indices": integers(places), "long.values": floats((4,), 1)}, "long", old.tobytes())
    old[places] = np.frombuffer(floats((4,), 1)[2], "<f4")
    assert found == old.tobytes()


@pytest.mark.parametrize(
    "indices",
    [
        integers([0, 12]),
        integers([-1, 2]),
        integers([3, 3]),
        integers([[0, 4], [0, 0]]),
        integers([[0, -1], [0, 0]]),
        integers([[0, 1, 2], [0, 0, 0]]),
        integers([[[1]]]),
        integers([0]),
        integers([1 << 62, 0]),
        floats((2,)),
    ],
)
def test_places_that_make_no_sense_are_refused(indices):
    with pytest.raises(FormatError, match="'w'"):
        read_sparse(update_of({"w.indices": indices, "w.values": floats((2,))}), SPECS)


@pytest.mark.parametrize(
    ("tensors", "metadata", "error"),
    [
        ({"w.indices": integers([0])}, None, FormatError),
        ({"w.values": floats((1,))}, None, FormatError),
        ({"w": floats((1,))}, None, FormatError),
        ({"w.indices": integers([0]), "w.values": integers([0])}, None, FormatError),
        ({"w.indices": integers([0]), "w.values": floats((1,))}, {"mode": "multiply"}, FormatError),
        ({"i.indices": integers([0]), "i.values": integers([1])}, {"mode": "add"}, FormatError),
        ({"s.indices": ("I64", (1 << 40, 0), b""), "s.values": floats((1,))}, None, FormatError),
        ({"no.indices": integers([0]), "no.values": floats((1,))}, None, UsageError),
    ],
)
def test_file_that_contradicts_itself_or_the_model_is_refused(tensors, metadata, error):
    with pytest.raises(error, match=r"^update: "):
        read_changes("sparse", update_of(tensors, metadata=metadata), SPECS)
