"""Arrange parameters by layer and module."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.webpage.blocks import Cell, Heatmap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"(?:(?<=[./])|^)\d+(?=[./]|$)")
_FEWEST_LAYERS = 2
LayerChange = tuple[str, "float | None", str]


def layer_and_module(name: str) -> tuple[int | None, str]:
    """Split a parameter's name into the number of its layer and the rest, in which other numbers are ``*``.

    The layer is the first number between separators: ``model.layers.3.mlp.experts.7.w1`` is of layer 3, and its module
    is ``model.layers.mlp.experts.*.w1``. It is None for a name without one.
    """
    found = _NUMBER.search(name)
    if found is None:
        return None, name
    before, after = name[: found.start()], without_numbers(name[found.end() :])
    return int(found[0]), (before.rstrip("./") + after).lstrip("./") or found[0]


def without_numbers(name: str) -> str:
    """Return a name with ``*`` in place of its numbers between separators."""
    return _NUMBER.sub("*", name)


def heatmap_of_layers(title: str, changes: Iterable[LayerChange]) -> Heatmap | None:
    """Return a heat map of modules by layer; None if the names have no more than one layer.

    Args:
        title: Its heading.
        changes: Name, change and its text of each parameter; a change without a number is None. A cell of several
            parameters shows the largest.
    """
    cells: dict[str, dict[int | None, list[LayerChange]]] = defaultdict(lambda: defaultdict(list))
    for change in changes:
        layer, module = layer_and_module(change[0])
        cells[module][layer].append(change)
    layers = sorted({layer for row in cells.values() for layer in row if layer is not None})
    if len(layers) < _FEWEST_LAYERS:
        return None
    columns: list[int | None] = [*layers]
    if any(None in row for row in cells.values()):
        columns.insert(0, None)  # there it is seen on a narrow page, too
    rows = {module: [_cell(row[layer]) if layer in row else None for layer in columns] for module, row in cells.items()}
    return Heatmap(
        title, "module by layer", "Relative change", ["-" if layer is None else str(layer) for layer in columns], rows
    )


def _cell(changes: Sequence[LayerChange]) -> Cell:
    name, value, text = max(changes, key=_size)
    if len(changes) == 1:
        return Cell(value, f"{name}: {text}", name)
    pattern = pattern_of([change[0] for change in changes])
    return Cell(value, f"{pattern} ({len(changes)} parameters): at most {text}", pattern)


def _size(change: LayerChange) -> float:
    value = change[1]
    return -1.0 if value is None else math.inf if math.isnan(value) else value


def pattern_of(names: Sequence[str]) -> str:
    """Return a pattern that matches names, with ``*`` in place of the numbers in which they differ."""
    parts = zip(*(re.split(r"([./])", name) for name in names), strict=False)
    return "".join(part[0] if len(set(part)) == 1 else "*" for part in parts)
