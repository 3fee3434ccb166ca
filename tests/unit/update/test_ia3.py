"""Updates that scale rows or columns."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import floats, update_of

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.value import new_value
from git_theta_plugins.updates.ia3 import read_ia3

SPECS = {
    "k.weight": TensorSpec.of("F32", (6, 4)),
    "k.bias": TensorSpec.of("F32", (6,)),
    "square.weight": TensorSpec.of("F32", (5, 5)),
    "conv.weight": TensorSpec.of("F32", (5, 5, 3)),
    "ids": TensorSpec.of("I64", (6,)),
}


def result(change, name):
    ones = np.ones(SPECS[name].shape, "<f4").tobytes()
    return np.frombuffer(new_value(change, SPECS[name], memoryview(ones), 2), "<f4").reshape(SPECS[name].shape)


def numbers(tensor):
    return np.frombuffer(tensor[2], "<f4")


def test_outputs_are_rows_and_their_bias():
    vector = floats((6, 1), 1)
    changes = read_ia3(update_of({"base_model.model.k.ia3_l": vector}), SPECS)
    assert set(changes) == {"k.weight", "k.bias"}
    assert np.array_equal(result(changes["k.weight"], "k.weight"), np.repeat(numbers(vector)[:, None], 4, axis=1))
    assert np.array_equal(result(changes["k.bias"], "k.bias"), numbers(vector))
    assert {change.encoding for change in changes.values()} == {"scale"}


def test_inputs_are_columns_and_leave_the_bias():
    vector = floats((1, 4), 1)
    changes = read_ia3(update_of({"base_model.model.k.ia3_l": vector}), SPECS)
    assert set(changes) == {"k.weight"}
    assert np.array_equal(result(changes["k.weight"], "k.weight"), np.repeat(numbers(vector)[None], 6, axis=0))


def test_transposed_layers_are_known_by_the_configuration():
    vector = floats((4, 1), 1)
    specs = {"k.weight": SPECS["k.weight"], "k.bias": TensorSpec.of("F32", (4,))}
    changes = read_ia3(update_of({"base_model.model.k.ia3_l": vector}, {"fan_in_fan_out": True}), specs)
    assert set(changes) == set(specs)
    assert np.array_equal(result(changes["k.weight"], "k.weight"), np.repeat(numbers(vector)[None], 6, axis=0))


@pytest.mark.parametrize(("length", "axis"), [(6, 0), (4, 1)])
def test_length_of_a_plain_vector_decides(length, axis):
    changes = read_ia3(update_of({"k.weight.scale": floats((length,))}), SPECS)
    assert changes["k.weight"].fit.params == {"axis": axis}


@pytest.mark.parametrize(("modules", "axis"), [(["square"], 1), (["k"], 0)])
def test_configuration_decides_where_the_length_cannot(modules, axis):
    update = update_of({"base_model.model.conv.ia3_l": floats((1, 5, 1))}, {"feedforward_modules": modules})
    specs = {"conv.weight": SPECS["conv.weight"], "square.weight": SPECS["square.weight"]}
    square = update_of({"base_model.model.square.ia3_l": floats((5,))}, {"feedforward_modules": modules})
    change = read_ia3(square, specs)["square.weight"]
    assert change.fit.params == {"axis": axis}
    scaled = result(change, "square.weight")
    assert np.array_equal(scaled if axis else scaled.T, np.tile(numbers(floats((5,))), (5, 1)))
    assert read_ia3(update, specs)["conv.weight"].fit.params == {"axis": 0}


def test_vector_that_may_be_rows_or_columns_is_refused():
    with pytest.raises(UsageError, match="rows or the columns"):
        read_ia3(update_of({"square.weight.scale": floats((5,))}), SPECS)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("k.weight.scale", floats((5,))),
        ("k.weight.scale", floats((6, 4))),
        ("k.weight.scale", floats((0,))),
        ("k.weight.scale", floats((1, 6))),
        ("k.weight.scale", ("I64", (6,), bytes(48))),
        ("ids.scale", floats((6,))),
    ],
)
def test_vector_that_does_not_fit_is_refused(key, tensor):
    with pytest.raises(FormatError, match=key.removesuffix(".scale")):
        read_ia3(update_of({key: tensor}), SPECS)


def test_adapter_of_another_kind_is_refused():
    with pytest.raises(UsageError, match="LORA"):
        read_ia3(update_of({"k.weight.scale": floats((6,))}, {"peft_type": "LORA"}), SPECS)
