"""The file of slices, in the words of mergekit's configurations."""

from __future__ import annotations

import pytest

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.stacking.file import Source, read_slices

ONE = "slices:\n  - sources: [{model: main:m, layer_range: [0, 2]}]\n"
TWO = "slices:\n  - sources: [{model: main:m, layer_range: [0, 2]}, {model: side:m, layer_range: [1, 3]}]\n"


def test_slices_are_passed_through_by_default():
    slices = read_slices(f"{ONE}  - sources: [{{model: side:m, layer_range: [1, 4]}}]\n".encode(), "f.yml")
    assert slices.slices == ((Source("main:m", range(2)),), (Source("side:m", range(1, 4)),))
    assert (slices.choice, slices.base_model, slices.depth, slices.models) == (None, None, 5, ("main:m", "side:m"))


def test_a_method_takes_options_weights_and_values_that_change_with_the_depth():
    text = f"{TWO}merge_method: linear\nweights: [2, [0, 1]]\nparameters: {{}}\nbase_model: side:m\ndtype: bfloat16\n"
    slices = read_slices(text.encode(), "f.yml")
    assert slices.choice.weight_gradients == ((2.0,), (0.0, 1.0))
    assert slices.choice.every_side
    assert (slices.models, slices.dtype) == (("side:m", "main:m"), "BF16")


@pytest.mark.parametrize(
    "text",
    [ONE, f"{TWO}merge_method: slerp\nparameters: {{t: [0, 0.5]}}\nbase_model: main:m\n", f"{ONE}dtype: float16\n"],
)
def test_a_file_that_is_written_again_says_the_same(text):
    slices = read_slices(text.encode(), "f.yml")
    again = read_slices(slices.to_bytes(), "f.yml")
    assert again.slices == slices.slices
    assert again.to_bytes() == slices.to_bytes()
    assert (again.base_model, again.dtype, again.written) == (slices.base_model, slices.dtype, slices.written)
    assert getattr(again.choice, "words", None) == getattr(slices.choice, "words", None)


RECORD = b"""slices:
- sources:
  - model: 820136028df90071260c14fd01c999fc85a286d3:one
    layer_range: [0, 2]
  - model: 1bd88fae4f5aa3dcebb483d0b18992ba3b7a80a5:two
    layer_range: [1, 3]
base_model: 820136028df90071260c14fd01c999fc85a286d3:one
merge_method: slerp
parameters:
  t: [0, 0.5]
dtype: float32
"""
"""As in directories of stacked models."""


def test_records_keep_their_bytes():
    assert read_slices(RECORD, "stack.yml").to_bytes() == RECORD


def test_other_names_of_models_replace_them_everywhere():
    slices = read_slices(f"{TWO}merge_method: slerp\nbase_model: side:m\n".encode(), "f.yml")
    assert slices.with_models({"main:m": "1:m", "side:m": "2:m"}).models == ("2:m", "1:m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yml is empty"),
        ("slices: []\n", "f.yml line 1: 'slices' must list at least one slice"),
        ("models: []\n", "unknown key 'models'"),
        ("slices:\n  - sources: []\n", "line 2: 'sources' must list at least one model"),
        (ONE.replace("[0, 2]", "[2, 2]"), "'layer_range' has no layers"),
        (ONE.replace("[0, 2]", "[-1, 2]"), "'layer_range' has no layers"),
        (ONE.replace("[0, 2]", "[0, 100001]"), "'layer_range' has no layers"),
        (ONE.replace("[0, 2]", "[0, true]"), "the first layer and the one after the last"),
        (ONE.replace("[0, 2]", "4"), "the first layer and the one after the last"),
        (ONE.replace(", layer_range: [0, 2]", ""), "the first layer and the one after the last"),
        (ONE.replace("main:m", "7"), "'model' must be text"),
        (ONE.replace("model: main:m, ", ""), "the source has no key 'model'"),
        (TWO, "the slices have 2 sources, and passthrough takes one"),
        (TWO.replace("[1, 3]", "[1, 4]"), "the same number of layers"),
        (f"{TWO}{ONE[8:]}", "the slice has 1 sources, and the first one 2"),
        (f"{ONE}merge_method: slerp\n", "'slerp' needs at least two sources"),
        (f"{TWO}merge_method: ours\n", "'ours' does not merge the sources"),
        (f"{TWO}merge_method: slerp\nparameters: {{u: 1}}\n", "has no option 'u'"),
        (f"{TWO}merge_method: slerp\nparameters: 1\n", "'parameters' must be a mapping"),
        (f"{TWO}merge_method: linear\nweights: 1\n", "'weights' must be a list"),
        (f"{ONE}parameters: {{scale: 0}}\n", "passthrough takes no options"),
        (f"{ONE}dtype: int8\n", "unknown type 'int8'"),
        (ONE.replace("[0, 2]", "[0, 60000]") * 2, "duplicate key 'slices'"),
        (ONE.replace("[0, 2]", "[0, 60000]") + ONE[8:].replace("[0, 2]", "[0, 60000]"), "more than 100000 layers"),
    ],
)
def test_what_is_wrong_is_an_error_that_says_where(text, message):
    with pytest.raises(MergeError) as raised:
        read_slices(text.encode(), "f.yml")
    assert message in raised.value.message
    assert raised.value.hint


def test_an_unknown_method_is_an_error():
    with pytest.raises(PluginError, match="slurp"):
        read_slices(f"{TWO}merge_method: slurp\n".encode(), "f.yml")
