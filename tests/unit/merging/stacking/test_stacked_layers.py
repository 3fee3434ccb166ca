"""Layers of models on top of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.stacking.layers import SourceLayers, find_stack, in_files, stacked
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import TensorSpec, tensor_digest


def parameter(text: str, count: int = 1) -> Parameter:
    """Return a parameter whose value is that of a text."""
    spec = TensorSpec(dtype("U8"), (count * len(text),))
    return Parameter(spec, tensor_digest(spec, text.encode() * count))


def names(layers: int, stack: str = "model.layers.") -> list[str]:
    """Return the names of a language model."""
    inner = [f"{stack}{n}.{rest}" for n in range(layers) for rest in ("mlp.experts.1.w", "norm.weight")]
    return ["model.embed_tokens.weight", *inner, "model.norm.weight", "lm_head.weight"]


def model(label: str, layers: int) -> dict[str, Parameter]:
    """Return a language model whose values are all different from those of another label."""
    return {name: parameter(f"{label} {name}") for name in names(layers)}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=5))
def test_each_layer_is_that_of_its_source_and_the_ends_are_those_of_the_outer_slices(rows):
    models = {"a": model("a", 4), "b": model("b", 4)}
    rows = [(label, start, min(4, start + length)) for label, start, length in rows]

    found = stacked([SourceLayers(models[label], "model.layers.", range(*ends)) for label, *ends in rows])

    order = [(label, number) for label, *ends in rows for number in range(*ends)]
    assert found.keys() == set(names(len(order)))
    for number, (label, source) in enumerate(order):
        for rest in ("mlp.experts.1.w", "norm.weight"):
            assert found[f"model.layers.{number}.{rest}"] == models[label][f"model.layers.{source}.{rest}"]
    assert found["model.embed_tokens.weight"] == models[rows[0][0]]["model.embed_tokens.weight"]
    for name in ("model.norm.weight", "lm_head.weight"):
        assert found[name] == models[rows[-1][0]][name]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("transformer.wte.weight", True),
        ("transformer.wpe.weight", True),
        ("bert.embeddings.word_embeddings.weight", True),
        ("gpt_neox.embed_in.weight", True),
        ("embed_out.weight", False),
        ("lm_head.weight", False),
        ("transformer.ln_f.weight", False),
        ("bert.pooler.dense.bias", False),
    ],
)
def test_embeddings_come_before_the_layers_and_heads_after_them(name, first):
    parts = [SourceLayers({name: parameter(label), "h.0.w": parameter(label)}, "h.", range(1)) for label in "ab"]
    assert stacked(parts)[name] == parameter("a" if first else "b")


def test_the_stack_is_the_one_with_as_many_layers_as_the_configuration_says():
    every = [*names(4), *(f"vision.blocks.{n}.w" for n in range(6)), "odd.3.w"]
    assert find_stack(every, 4, "m") == ("model.layers.", 4)
    assert find_stack(every, None, "m") == ("vision.blocks.", 6)


@pytest.mark.parametrize(
    ("every", "count", "message"),
    [
        (names(4), 5, "m has no 5 layers, which config.json says it has"),
        (["norm.weight"], None, "m has no numbered layers"),
        ([*names(2, "encoder.block."), *names(2, "decoder.block.")], 2, "decoder.block., encoder.block."),
    ],
)
def test_layers_that_are_not_found_are_an_error(every, count, message):
    with pytest.raises(MergeError) as raised:
        find_stack(every, count, "m")
    assert message in raised.value.message


@given(st.integers(1, 60), st.integers(1, 12))
def test_files_have_all_parameters_in_the_order_of_layers_within_the_limit(most, layers):
    values = {name: parameter("x", 1 + len(name) % 7) for name in names(layers)}

    files = in_files(values, "model.layers.", most)

    merged = {name: value for file in files for name, value in file.items()}
    assert merged == values
    assert sum(map(len, files)) == len(values)
    assert all(len(file) == 1 or sum(v.spec.nbytes for v in file.values()) <= most for file in files)
    numbers = [int(name.split(".")[2]) for name in merged if name.startswith("model.layers.")]
    assert numbers == sorted(numbers)
    assert next(iter(merged)) == "model.embed_tokens.weight"
