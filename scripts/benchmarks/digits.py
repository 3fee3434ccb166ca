"""Classifiers of handwritten digits for measuring merges, small enough to be trained in a second.

The images are those of scikit-learn (1797 images of 8 x 8 pixels). A base is briefly trained on some of them, and each
expert is fine-tuned from the base on a part of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from git_theta_ext.registry import built_in
from git_theta_ext.statistics.collect import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Values = dict[str, torch.Tensor]

CLASSES = tuple(range(10))
SPLITS: dict[str, tuple[tuple[int, ...], ...]] = {
    "halves": (CLASSES[:5], CLASSES[5:]),
    "pairs": tuple((first, first + 1) for first in range(0, 10, 2)),
    "shards": (CLASSES,) * 4,
}
"""The classes of each expert. The examples are divided among experts with the same classes."""

_SIDE = 8
_LARGEST = 16
BATCH = 32
_PRETRAINING, _TRAINING, _VALIDATION = 100, 900, 200


@dataclass(frozen=True)
class Data:
    """Images [n, 64] with values from 0 to 1, and their labels."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: torch.Tensor | slice) -> Data:
        """Return a part of the examples."""
        return Data(self.inputs[chosen], self.labels[chosen])

    def within(self, classes: Sequence[int]) -> Data:
        """Return the examples of some classes."""
        return self.of(torch.isin(self.labels, torch.tensor(classes)))


@dataclass(frozen=True)
class Sets:
    """The examples for the base, for the experts, for choosing options (validation), and for the results (test)."""

    pretraining: Data
    training: Data
    validation: Data
    test: Data

    def parts(self, split: str) -> list[Data]:
        """Return the training examples of each expert."""
        classes = SPLITS[split]
        return [
            self.training.within(own).of(slice(classes[:n].count(own), None, classes.count(own)))
            for n, own in enumerate(classes)
        ]


def digits(seed: int) -> Sets:
    """Shuffle and divide the images."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    everything = Data(torch.from_numpy(images).float() / _LARGEST, torch.from_numpy(labels).long())
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
    sizes = [_PRETRAINING, _TRAINING, _VALIDATION, len(everything) - _PRETRAINING - _TRAINING - _VALIDATION]
    return Sets(*(everything.of(part) for part in order.split(sizes)))


def perceptron() -> nn.Module:
    """Return a network with two hidden layers."""
    return nn.Sequential(nn.Linear(_SIDE**2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class Transformer(nn.Module):
    """An encoder of two blocks whose tokens are the rows of an image."""

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.rows = nn.Linear(_SIDE, width)
        self.places = nn.Parameter(torch.randn(_SIDE, width) / width**0.5)
        self.blocks = nn.ModuleList([_Block(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(CLASSES))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        hidden = self.rows(inputs.reshape(-1, _SIDE, _SIDE)) + self.places
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden.mean(1)))


class _Block(nn.Module):
    """Attention with two heads and a network with one hidden layer, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        size = hidden.shape
        heads = self.attention(self.norms[0](hidden)).reshape(*size[:2], 6, -1).transpose(1, 2).chunk(3, 1)
        hidden = hidden + self.out(scaled_dot_product_attention(*heads).transpose(1, 2).reshape(size))
        return hidden + self.mlp(self.norms[1](hidden))


MODELS: dict[str, Callable[[], nn.Module]] = {"perceptron": perceptron, "transformer": Transformer}


@dataclass(frozen=True)
class Trainer:
    """A trainer of models of one kind with AdamW. The same seed gives the same values.

    Attributes:
        model: The key of the model in ``MODELS``.
        pretraining: Epochs and learning rate for the base.
        tuning: Epochs and learning rate for experts.
    """

    model: str
    pretraining: tuple[int, float] = (30, 1e-3)
    tuning: tuple[int, float] = (15, 5e-4)

    def loaded(self, values: Values) -> nn.Module:
        """Return the model with these values, in evaluation mode."""
        made = MODELS[self.model]()
        made.load_state_dict(values)
        return made.eval()

    def base(self, sets: Sets, seed: int) -> Values:
        """Train a base from random values."""
        torch.manual_seed(seed)
        return _trained(MODELS[self.model](), sets.pretraining, *self.pretraining, seed)

    def expert(self, values: Values, data: Data, seed: int) -> Values:
        """Train a model further, starting from its values."""
        return _trained(self.loaded(values), data, *self.tuning, seed)

    def statistics(self, values: Values, data: Data) -> Values:
        """Collect statistics of all kinds, with the labels of the data."""
        pairs = list(zip(data.inputs, data.labels, strict=True))
        return collect(self.loaded(values), pairs, _loss, built_in("statistics"))

    def accuracy(self, values: Values, data: Data, among: Sequence[int] = CLASSES) -> float:
        """Return the accuracy, with predictions restricted to the given classes."""
        with torch.no_grad():
            logits = self.loaded(values)(data.inputs)[:, list(among)]
        return float((torch.tensor(among)[logits.argmax(1)] == data.labels).double().mean())


def _loss(model: nn.Module, example: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    inputs, label = example
    return cross_entropy(model(inputs[None]), label[None])


def _trained(model: nn.Module, data: Data, epochs: int, rate: float, seed: int) -> Values:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(data), generator=generator).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(data.inputs[batch]), data.labels[batch]).backward()
            optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
