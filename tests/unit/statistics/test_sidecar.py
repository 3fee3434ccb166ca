"""Where statistics lie and how they are laid out."""

import json

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.statistics.sidecar import Facts, check, facts_of, is_statistics, sidecar_of, statistic

PARAMETERS = {
    "layer.weight": TensorSpec.of("BF16", (3, 5)),
    "layer.bias": TensorSpec.of("BF16", (3,)),
    "a/b": TensorSpec.of("F32", ()),
}


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("model.safetensors", "model.stats.safetensors"),
        ("runs/1.5b/model-00001-of-00002.safetensors", "runs/1.5b/model-00001-of-00002.stats.safetensors"),
        ("runs.v1/model", "runs.v1/model.stats.safetensors"),
        ("model.pt", "model.stats.safetensors"),
    ],
)
def test_statistics_lie_beside_the_checkpoint(checkpoint, expected):
    assert sidecar_of(checkpoint) == expected


@pytest.mark.parametrize(
    ("kind", "parameter", "shape"),
    [
        ("fisher", "layer.weight", (3, 5)),
        ("fisher", "layer.bias", (3,)),
        ("fisher", "a/b", ()),
        ("gram", "layer.weight", (5, 5)),
        ("grad_gram", "layer.weight", (3, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_statistics_that_fit_are_accepted(kind, parameter, shape, dtype):
    check({statistic(kind, parameter): TensorSpec.of(dtype, shape)}, PARAMETERS)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        ("hessian/layer.weight", "F32", (3, 5), "'hessian/layer.weight' has an unknown kind"),
        ("layer.weight", "F32", (3, 5), "an unknown kind"),
        ("fisher/module.layer.weight", "F32", (3, 5), "does not belong to a parameter"),
        ("fisher/layer.weight", "F32", (5, 3), r"is F32 \[5,3\], not F32 or F64 \[3,5\]"),
        ("fisher/layer.weight", "BF16", (3, 5), "is BF16"),
        ("fisher/layer.weight", "I32", (3, 5), "is I32"),
        ("gram/layer.weight", "F32", (3, 3), r"not F32 or F64 \[5,5\]"),
        ("grad_gram/layer.weight", "F32", (5, 5), r"not F32 or F64 \[3,3\]"),
        ("gram/layer.bias", "F32", (3, 3), "not the weight of a Linear"),
        ("grad_gram/a/b", "F32", (), "not the weight of a Linear"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_by_name(name, dtype, shape, message):
    with pytest.raises(FormatError, match=message):
        check({name: TensorSpec.of(dtype, shape)}, PARAMETERS)


def header(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"samples": "256", "checkpoint": "ab"}, Facts(256, "ab")),
        ({"samples": "3"}, Facts(3)),
        ({"samples": "many", "checkpoint": 7}, Facts()),
        ({"samples": "9" * 5000}, Facts()),
        ({}, Facts()),
    ],
)
def test_statistics_say_how_they_were_made(metadata, expected):
    assert facts_of(memoryview(header(json.dumps({"__metadata__": metadata}).encode()) + b"values")) == expected


@pytest.mark.parametrize(
    "data",
    [b"", b"text", header(b"[]"), header(b"{"), header(b'{"__metadata__": 1}'), b"\xff" * 20, header(b"[" * 100_000)],
)
def test_a_file_that_is_something_else_says_nothing(data):
    assert facts_of(memoryview(data)) == Facts()


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["fisher/a", "gram/b/c"], True), (["fisher/a", "layer.weight"], False), (["fisher"], False), ([], False)],
)
def test_statistics_are_known_by_their_names(names, expected):
    assert is_statistics(names) is expected
