"""A checkpoint's values get into a model whole, or not at all."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from git_theta_ext.errors import FormatError
from git_theta_ext.statistics.values import load, moved, moving


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def numbered(module):
    return {name: torch.full_like(value, number) for number, (name, value) in enumerate(module.state_dict().items())}


def test_parameters_and_buffers_are_loaded_in_the_types_of_the_model():
    module = model().to(torch.bfloat16)
    values = numbered(model())
    load(module, values, "m")
    found = module.state_dict()
    assert all(torch.equal(found[name].to(value.dtype), value) for name, value in values.items())
    assert found["0.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["embed.weight", "head.weight"])
def test_of_tied_parameters_one_is_enough(name):
    module = nn.ModuleDict({"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
    module["head"].weight = module["embed"].weight
    load(module, {name: torch.ones(4, 3)}, "m")
    assert module["embed"].weight is module["head"].weight
    assert bool((module["head"].weight == 1).all())


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        (lambda v: v.pop("2.bias"), "it lacks 2.bias", "saved from"),
        (lambda v: v.update({"3.bias": torch.ones(1)}), "it has, and the model lacks, 3.bias", "saved from"),
        (
            lambda v: v.update({"2.bias": torch.ones(3)}),
            r"it has other shapes: 2.bias \[3\], \[2\] in the",
            "saved from",
        ),
        (lambda v: v.clear(), "it lacks 0.bias, 0.weight, 1.bias, 1.num_batches_tracked, 1.running_mean and 4", "from"),
        (lambda v: prefixed(v, "module."), "0.bias", "checkpoint's names begin with 'module.'"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, words, hint):
    module = model()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    values = numbered(module)
    change(values)
    with pytest.raises(FormatError, match=f"m does not fit the model: .*{words}") as caught:
        load(module, values, "m")
    assert hint in caught.value.hint
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def prefixed(values, prefix):
    for name in list(values):
        values[prefix + name] = values.pop(name)


def test_a_prefix_of_the_models_names_is_reported():
    with pytest.raises(FormatError) as caught:
        load(nn.ModuleDict({"inner": nn.Linear(2, 2)}), nn.Linear(2, 2).state_dict(), "m")
    assert "the model's names begin with 'inner.'" in caught.value.hint


class Both(NamedTuple):
    one: torch.Tensor
    other: int


def test_tensors_are_moved_wherever_they_are_in_an_example():
    example = {"a": [torch.ones(1), ("text", torch.ones(2))], "b": Both(torch.ones(3), 5)}
    found = moved(example, "meta")
    assert [found["a"][0].device.type, found["a"][1][1].device.type, found["b"].one.device.type] == ["meta"] * 3
    assert (found["a"][1][0], found["b"].other, type(found["b"])) == ("text", 5, Both)


def test_a_loss_gets_moved_examples():
    loss = moving(lambda module, example: (module, example.device.type), "meta")
    assert loss("module", torch.ones(1)) == ("module", "meta")
