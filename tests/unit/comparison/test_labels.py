"""Few patterns say which parameters are meant."""

import pytest

from git_theta_ext.comparison.group import labels

LAYERS = [f"encoder.layer.{n}.{part}.weight" for n in (4, 5) for part in ("attention", "mlp")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.weight"], ["a.weight"]),
        (LAYERS, ["encoder.layer.{4-5}.attention.weight", "encoder.layer.{4-5}.mlp.weight"]),
        ([*LAYERS, "encoder.layer.5.norm"], ["encoder.layer.{4-5}.**"]),
        ([*LAYERS, "pooler.weight"], ["encoder.layer.{4-5}.**", "pooler.weight"]),
        (["a", "b", "c"], ["**"]),
    ],
)
def test_patterns_have_as_much_detail_as_few_can(names, expected):
    assert labels(tuple(names), 2) == tuple(expected)
