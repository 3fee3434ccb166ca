"""Two classifiers that each know half of the classes are merged with statistics collected from them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from git_theta_ext.interfaces import Piece
from git_theta_ext.registry import built_in, find_merge
from git_theta_ext.statistics.collect import collect
from git_theta_ext.statistics.sidecar import statistic

FEATURES, CLASSES, EXAMPLES = 8, 4, 60
HALVES = ((0, 1), (2, 3))


def blobs(classes):
    """Draw examples around a centre for each class."""
    generator = torch.Generator().manual_seed(7)
    centres = 2 * torch.randn((CLASSES, FEATURES), generator=generator)
    labels = torch.tensor(classes).repeat(EXAMPLES)
    return centres[labels] + torch.randn((len(labels), FEATURES), generator=generator), labels


def classifier(values):
    made = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))
    made.load_state_dict(values)
    return made


def trained(values, examples, steps):
    model = classifier(values)
    optimiser = torch.optim.SGD(model.parameters(), 0.2)
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(model(examples[0]), examples[1]).backward()
        optimiser.step()
    return model


def fresh():
    generator = torch.Generator().manual_seed(3)
    shapes = {"0.weight": (16, FEATURES), "0.bias": (16,), "2.weight": (CLASSES, 16), "2.bias": (CLASSES,)}
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def loss(model, example):
    return cross_entropy(model(example[0]), example[1])


class Round:
    """A base, its two descendants, and what each of them knows."""

    def __init__(self):
        self.data = [blobs(half) for half in HALVES]
        self.all = tuple(map(torch.cat, zip(*self.data, strict=True)))
        self.base = trained(fresh(), self.all, 3).state_dict()
        models = [trained(self.base, examples, 60) for examples in self.data]
        self.statistics = [
            collect(model, list(zip(*examples, strict=True)), loss, built_in("statistics"))
            for model, examples in zip(models, self.data, strict=True)
        ]
        self.branches = [model.state_dict() for model in models]

    def piece(self, method, name):
        known = {
            kind: tuple(each[statistic(kind, name)] for each in self.statistics)
            for kind in method.contract.sidecars
            if statistic(kind, name) in self.statistics[0]
        }
        return Piece(
            name,
            self.base[name] if method.contract.needs_base else None,
            tuple(branch[name] for branch in self.branches),
            {option: value.default for option, value in method.contract.options.items()},
            (1.0,) * len(self.branches),
            sidecars=known,
        )

    def merged(self, method_name):
        method = find_merge(method_name)
        return {name: method(self.piece(method, name)) for name in self.base}

    def loss(self, values):
        with torch.no_grad():
            return float(loss(classifier(values), self.all))


@pytest.fixture(scope="module")
def two():
    return Round()


@pytest.fixture(scope="module")
def average(two):
    return two.merged("average")


def test_each_half_knows_less_than_their_mean(two, average):
    assert min(map(two.loss, two.branches)) > 3 * two.loss(average)


@pytest.mark.parametrize("name", ["regmean", "mats"])
def test_knowing_the_inputs_merges_better_than_the_mean(two, average, name):
    assert two.loss(two.merged(name)) < 0.8 * two.loss(average)


def test_regmean_changes_outputs_of_the_first_layer_less_than_the_mean(two, average):
    def moved(values):
        branches = zip(two.branches, two.data, strict=True)
        return sum(float((rows @ (values - branch["0.weight"]).T).square().sum()) for branch, (rows, _) in branches)

    assert moved(two.merged("regmean")["0.weight"]) < 0.9 * moved(average["0.weight"])


def test_fisher_moves_what_a_branch_needs_less_than_the_mean(two, average):
    def moved(values):
        return sum(
            float((known[statistic("fisher", name)] * (values[name] - branch[name]).square()).sum())
            for branch, known in zip(two.branches, two.statistics, strict=True)
            for name in values
        )

    assert moved(two.merged("fisher")) < 0.8 * moved(average)
