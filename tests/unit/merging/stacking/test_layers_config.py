"""The configuration of a model whose layers change."""

from __future__ import annotations

import json

import pytest

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.stacking.config import LayersConfig


def config(**content: object) -> LayersConfig:
    """Return a configuration, as Transformers writes it."""
    return LayersConfig.parse((json.dumps(content, indent=2) + "\n").encode(), "m")


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer", "n_layers", "num_layers"])
def test_only_the_number_of_layers_changes_and_the_text_stays_as_it_is_written(key):
    one = config(model_type="llama", **{key: 4}, hidden_size=8)
    assert one.of_layers([(one, range(3)), (one, range(1, 4))]).decode() == one.text.replace(" 4", " 6")


def test_lists_with_a_value_for_each_layer_follow_the_layers():
    one, two = (config(num_hidden_layers=2, layer_types=types) for types in (["a", "b"], ["c", "d"]))
    made = json.loads(one.of_layers([(one, range(2)), (two, range(1, 2)), (one, range(1))]))
    assert made == {"num_hidden_layers": 4, "layer_types": ["a", "b", "d", "a"]}


def test_the_language_model_of_a_larger_model_has_its_configuration_in_a_part():
    one = config(text_config={"num_hidden_layers": 2, "hidden_size": 8}, vision_config={"num_hidden_layers": 2})
    made = json.loads(one.of_layers([(one, range(2)), (one, range(2))]))
    assert made == {**one.content, "text_config": {"num_hidden_layers": 4, "hidden_size": 8}}


def test_lists_that_only_one_model_has_are_an_error():
    one, two = config(num_hidden_layers=2, layer_types=["a", "b"]), config(num_hidden_layers=2)
    with pytest.raises(MergeError, match="'layer_types' of some models"):
        one.of_layers([(one, range(2)), (two, range(2))])


def test_lists_that_may_name_layers_by_number_are_doubtful():
    one = config(num_hidden_layers=2, mlp_only_layers=[1], no_rope_layers=[1, 1], eos_token_id=[1, 2], skip_layers=[])
    assert one.doubtful == ["mlp_only_layers"]


def test_models_of_other_sizes_differ():
    one = config(num_hidden_layers=2, hidden_size=8)
    assert not one.difference(config(num_hidden_layers=3, hidden_size=8, vocab_size=4))
    assert one.difference(config(num_hidden_layers=2, hidden_size=16)) == "hidden_size is 8 and 16"


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"num_hidden_layers": "2"}', b'{"n_layer": true}', b"\xff"])
def test_a_file_that_says_nothing_of_layers_is_an_error(data):
    with pytest.raises(MergeError) as raised:
        LayersConfig.parse(data, "main:m")
    assert raised.value.message.startswith("main:m: config.json")
