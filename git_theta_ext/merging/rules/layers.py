"""Where a parameter is in the depth of a model, and options whose values change with the depth."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_LAYER = re.compile(r"(?:^|\.)([0-9]{1,6})(?=\.)")


def depths(names: Iterable[str]) -> Callable[[str], float]:
    """Return a function from the name of a parameter to its depth: 0 in the first layer, 1 in the last one.

    A layer is the first number between dots, as in ``model.layers.3.mlp.up_proj.weight``. Layers are counted among the
    parameters with the same text before the number, so an encoder and a decoder have depths of their own. Parameters
    outside of layers, such as embeddings, have the depth 0, and those of a single layer the depth 1, as in mergekit.

    Args:
        names: The names of all parameters.
    """
    last: dict[str, int] = {}
    for layer in filter(None, map(layer_of, names)):
        last[layer.stack] = max(last.get(layer.stack, 0), layer.number)

    def depth(name: str) -> float:
        layer = layer_of(name)
        if layer is None:
            return 0.0
        count = last.get(layer.stack, 0)
        return layer.number / count if count else 1.0

    return depth


class Layer(NamedTuple):
    """The layer of a parameter.

    Attributes:
        stack: The text before the number, the same for all layers of a stack, such as ``model.layers.``.
        number: The number, from 0.
        rest: The text after the number, such as ``.mlp.up_proj.weight``.
    """

    stack: str
    number: int
    rest: str


def layer_of(name: str) -> Layer | None:
    """Return the layer that a parameter is in, according to its name; None if it is outside of layers."""
    match = _LAYER.search(name)
    return None if match is None else Layer(name[: match.start(1)], int(match[1]), name[match.end(1) :])


def interpolated(values: Sequence[float], depth: float) -> float:
    """Return the value at a depth from 0 to 1; the values are those at equal distances, linear in between."""
    place = depth * (len(values) - 1)
    before = min(int(place), len(values) - 1)
    after = min(before + 1, len(values) - 1)
    share = place - before
    return (1 - share) * values[before] + share * values[after]
