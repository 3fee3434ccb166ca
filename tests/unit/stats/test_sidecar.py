"""Where statistics lie and how they are laid out."""

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.stats.sidecar import check, sidecar_of, statistic

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
        ("hessian/layer.weight", "F32", (3, 5), "'hessian/layer.weight' is of no known kind"),
        ("layer.weight", "F32", (3, 5), "no known kind"),
        ("fisher/module.layer.weight", "F32", (3, 5), "of no parameter"),
        ("fisher/layer.weight", "F32", (5, 3), r"is F32 \[5,3\], not F32 or F64 \[3,5\]"),
        ("fisher/layer.weight", "BF16", (3, 5), "is BF16"),
        ("fisher/layer.weight", "I32", (3, 5), "is I32"),
        ("gram/layer.weight", "F32", (3, 3), r"not F32 or F64 \[5,5\]"),
        ("grad_gram/layer.weight", "F32", (5, 5), r"not F32 or F64 \[3,3\]"),
        ("gram/layer.bias", "F32", (3, 3), "no weight of a Linear"),
        ("grad_gram/a/b", "F32", (), "no weight of a Linear"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_by_name(name, dtype, shape, message):
    with pytest.raises(FormatError, match=message):
        check({name: TensorSpec.of(dtype, shape)}, PARAMETERS)
