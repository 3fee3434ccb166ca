import math

import pytest

from git_theta_ext.webpage.layers import heatmap_of_layers, layer_and_module, pattern_of


@pytest.mark.parametrize(
    ("name", "layer", "module"),
    [
        ("model.layers.3.mlp.experts.7.w1", 3, "model.layers.mlp.experts.*.w1"),
        ("encoder/block/12/kernel", 12, "encoder/block/kernel"),
        ("0.weight", 0, "weight"),
        ("blk.5", 5, "blk"),
        ("7", 7, "7"),
        ("embed.weight", None, "embed.weight"),
        ("conv2d.w3", None, "conv2d.w3"),
        ("", None, ""),
    ],
)
def test_the_first_number_is_the_layer(name, layer, module):
    assert layer_and_module(name) == (layer, module)


def test_a_cell_of_several_parameters_shows_the_largest_change():
    changes = [(f"layers.{layer}.experts.{n}.w", layer + n / 10, f"{n}") for layer in range(2) for n in range(3)]
    chart = heatmap_of_layers("Change", [*changes, ("head", math.inf, "inf")])
    assert list(chart.columns) == ["-", "0", "1"]
    assert list(chart.rows) == ["layers.experts.*.w", "head"]
    none, first, second = chart.rows["layers.experts.*.w"]
    assert (first.value, first.pattern) == (0.2, "layers.0.experts.*.w")
    assert second.text == "layers.1.experts.*.w (3 parameters): at most 2"
    assert none is None
    assert chart.rows["head"][0].value == math.inf


def test_nan_is_larger_than_every_change():
    chart = heatmap_of_layers("Change", [("a.0.0", math.nan, "nan"), ("a.0.1", 1.0, "1"), ("a.1.0", 0.0, "0")])
    assert math.isnan(chart.rows["a.*"][0].value)


def test_names_without_layers_have_no_heat_map():
    assert heatmap_of_layers("Change", [("a", 1.0, "1"), ("b.0", 1.0, "1")]) is None


def test_a_pattern_keeps_what_names_share():
    assert pattern_of(["a.1.b/2", "a.1.b/3"]) == "a.1.b/*"
