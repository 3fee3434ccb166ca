"""The built-in kinds of updates keep the contract."""

from __future__ import annotations

import json

import numpy as np
import pytest

from git_theta_ext.interfaces import TensorSpec, UpdateFile, UpdateTensor
from git_theta_ext.model.packed_signs import frame_signs
from git_theta_ext.registry import built_in, find_update
from git_theta_ext.testing.updates import UpdateKindTests

WEIGHT = "layer.weight"


def tensor(dtype, values):
    data = memoryview(np.ascontiguousarray(values).tobytes())
    return UpdateTensor(TensorSpec.of(dtype, np.shape(values)), data)


def numbers(*shape):
    return tensor("F32", np.linspace(-0.1, 0.2, int(np.prod(shape)), dtype="<f4").reshape(shape))


FILES = {
    "lora": UpdateFile(
        "u",
        {
            f"base_model.model.layer.lora_{side}.weight": numbers(*shape)
            for side, shape in (("A", (2, 5)), ("B", (3, 2)))
        },
        config={"peft_type": "LORA", "r": 2, "lora_alpha": 4},
    ),
    "ia3": UpdateFile("u", {"base_model.model.layer.ia3_l": numbers(3, 1)}),
    "sparse": UpdateFile(
        "u", {f"{WEIGHT}.indices": tensor("I64", np.array([1, 4, 9])), f"{WEIGHT}.values": numbers(3)}
    ),
    "compeft": UpdateFile(
        "u",
        {WEIGHT: tensor("U8", np.frombuffer(frame_signs(np.array([1, 0, -1] * 5, np.int8)), np.uint8))},
        {"kind": "git-theta compeft 1", "scale": "0.5", "shapes": json.dumps({WEIGHT: [3, 5]})},
    ),
}


class TestBuiltIn(UpdateKindTests):
    @pytest.fixture(params=built_in("updates"))
    def name(self, request):
        return request.param

    @pytest.fixture
    def kind(self, name):
        return find_update(name)

    @pytest.fixture
    def file(self, name):
        return FILES[name]

    @pytest.fixture
    def parameters(self):
        return {WEIGHT: TensorSpec.of("F32", (3, 5)), "layer.bias": TensorSpec.of("F32", (3,))}
