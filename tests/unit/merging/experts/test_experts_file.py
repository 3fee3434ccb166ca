"""The file of experts, in the words of mergekit's configurations."""

from __future__ import annotations

import pytest

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.experts.file import Expert, read_mixture

RANDOM = """base_model: main:m
experts:
  - source_model: one:m
  - source_model: two:m
gate_mode: random
"""
PROMPTS = """base_model: main:m
experts:
  - {source_model: one:m, positive_prompts: [add, [1, 2]]}
  - {source_model: two:m, positive_prompts: [write], negative_prompts: [[3]]}
gate_mode: cheap_embed
experts_per_token: 1
"""


def test_experts_have_what_mergekit_calls_it():
    mixture = read_mixture(PROMPTS.encode(), "f.yml")
    assert mixture.experts == (Expert("one:m", (("add", (1, 2)), ())), Expert("two:m", (("write",), ((3,),))))
    assert (mixture.base_model, mixture.each, mixture.gate_mode) == ("main:m", 1, "cheap_embed")
    assert mixture.models == ("main:m", "one:m", "two:m")


def test_a_method_takes_options_and_weights():
    text = f"{RANDOM}merge_method: ties\nparameters: {{density: 0.5}}\nweights: [2, 1]\ndtype: bfloat16\nseed: 5\n"
    mixture = read_mixture(text.encode(), "f.yml")
    assert mixture.choice.options["density"] == 0.5
    assert mixture.choice.every_side
    assert (mixture.dtype, mixture.seed, mixture.each) == ("BF16", 5, 2)


RECORD = b"""base_model: 820136028df90071260c14fd01c999fc85a286d3:m
experts:
- source_model: 1bd88fae4f5aa3dcebb483d0b18992ba3b7a80a5:m
  positive_prompts:
  - [1, 2]
- source_model: 820136028df90071260c14fd01c999fc85a286d3:m
  positive_prompts:
  - [4]
  negative_prompts:
  - [5]
gate_mode: cheap_embed
experts_per_token: 1
merge_method: task_arithmetic
parameters: {lambda: 0.5}
dtype: float32
"""
"""As in directories of mixtures."""


@pytest.mark.parametrize("text", [RANDOM.encode(), PROMPTS.encode(), RECORD])
def test_a_file_that_is_written_again_says_the_same(text):
    mixture = read_mixture(text, "f.yml")
    again = read_mixture(mixture.to_bytes(), "f.yml")
    assert again.to_bytes() == mixture.to_bytes()
    assert (again.experts, again.written, again.each) == (mixture.experts, mixture.written, mixture.each)


def test_records_keep_their_bytes():
    assert read_mixture(RECORD, "moe.yml").to_bytes() == RECORD


def test_other_names_of_models_replace_them_everywhere():
    mixture = read_mixture(RANDOM.encode(), "f.yml")
    assert mixture.with_models({"main:m": "0:m", "one:m": "1:m", "two:m": "2:m"}).models == ("0:m", "1:m", "2:m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yml is empty"),
        ("experts: []\n", "line 1: the key 'base_model' is missing"),
        ("base_model: main:m\n", "'experts' must list from 2 to 1024 models"),
        (RANDOM.replace("  - source_model: two:m\n", ""), "'experts' must list from 2"),
        (RANDOM.replace("  - source_model: two:m\n", "  - {}\n"), "line 4: the expert has no key 'source_model'"),
        (RANDOM.replace("gate_mode: random\n", ""), "'gate_mode' must be one of random, uniform_random, zeros"),
        (RANDOM.replace("random", "hidden"), "line 5: gate_mode 'hidden' runs the model"),
        (RANDOM.replace("random", "zeros\nseed: 1"), "line 6: gate_mode 'zeros' takes no seed"),
        (PROMPTS.replace("cheap_embed", "random"), "gate_mode 'random' takes no prompts"),
        (f"{RANDOM}seed: -1\n", "'seed' must be a number from 0"),
        (f"{RANDOM}experts_per_token: 3\n", "'experts_per_token' must be a number from 1 to 2"),
        (f"{RANDOM}experts_per_token: true\n", "'experts_per_token' must be a number from 1 to 2"),
        (f"{RANDOM}weights: [1, 2]\n", "'weights' is for a merge_method"),
        (f"{RANDOM}merge_method: ours\n", "'ours' does not merge what the models share"),
        (f"{RANDOM}merge_method: ties\nparameters: {{u: 1}}\n", "has no option 'u'"),
        (f"{RANDOM}shared_experts: []\n", "unknown key 'shared_experts'"),
        (PROMPTS.replace("positive_prompts: [write], ", ""), "expert 2 has no positive_prompts"),
        (PROMPTS.replace("[add, [1, 2]]", "[write]").replace(", negative_prompts: [[3]]", ""), "the same prompts"),
        (PROMPTS.replace("[1, 2]", "[1, -2]"), "must list texts, or lists of token ids"),
        (PROMPTS.replace("[1, 2]", "[]"), "must list texts, or lists of token ids"),
        (PROMPTS.replace("add, [1, 2]", "''"), "must list texts, or lists of token ids"),
    ],
)
def test_what_is_wrong_is_an_error_that_says_where(text, message):
    with pytest.raises(MergeError) as raised:
        read_mixture(text.encode(), "f.yml")
    assert message in raised.value.message
    assert raised.value.hint


def test_an_unknown_method_of_what_is_shared_is_an_error():
    with pytest.raises(PluginError, match="slurp"):
        read_mixture(f"{RANDOM}merge_method: slurp\n".encode(), "f.yml")
