"""Where a parameter is in the depth of a model, and options whose values change with the depth."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
    for name in names:
        if match := _LAYER.search(name):
            stack = name[: match.start(1)]
            last[stack] = max(last.get(stack, 0), int(match[1]))

    def depth(name: str) -> float:
        match = _LAYER.search(name)
        if match is None:
            return 0.0
        count = last.get(name[: match.start(1)], 0)
        return int(match[1]) / count if count else 1.0

    return depth


def interpolated(values: Sequence[float], depth: float) -> float:
    """Return the value at a depth from 0 to 1; the values are those at equal distances, linear in between."""
    place = depth * (len(values) - 1)
    before = min(int(place), len(values) - 1)
    after = min(before + 1, len(values) - 1)
    share = place - before
    return (1 - share) * values[before] + share * values[after]
