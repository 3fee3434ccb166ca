"""Put layers of models on top of each other: names of parameters change, and no value is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.layers import layer_of
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.model.manifest import Parameter

_HINT = "git theta ls-files --params lists the parameters"
_INPUT = re.compile(r"(?!.*embed_out)(?!.*lm_head).*(?:emb|wte|wpe|project_in)")
"""Parameters before the first layer; all others outside of layers come after the last one."""


@dataclass(frozen=True)
class SourceLayers:
    """Layers of a model, and what it has besides layers.

    Attributes:
        parameters: All parameters of the model.
        stack: The beginning of the names of the parameters in its layers, such as ``model.layers.``.
        layers: The numbers of the layers that are taken.
    """

    parameters: Mapping[str, Parameter]
    stack: str
    layers: range

    def outside(self, *, before: bool) -> dict[str, Parameter]:
        """Return the parameters before, or else after the layers."""
        outside = {n: p for n, p in self.parameters.items() if (at := layer_of(n)) is None or at.stack != self.stack}
        return {name: p for name, p in outside.items() if (_INPUT.match(name) is not None) == before}


def find_stack(names: Iterable[str], count: int | None, model: str) -> tuple[str, int]:
    """Return the beginning of the names of the parameters in the layers of a model, and the number of layers.

    Args:
        names: The names of its parameters.
        count: How many layers its configuration says it has; None if it has no configuration.
        model: The model, for errors.

    Raises:
        MergeError: No layers, or those of several stacks, are as many.
    """
    numbers: dict[str, set[int]] = {}
    for layer in filter(None, map(layer_of, names)):
        numbers.setdefault(layer.stack, set()).add(layer.number)
    counts = {stack: len(found) for stack, found in numbers.items() if max(found) + 1 == len(found)}
    wanted = max(counts.values(), default=0) if count is None else count
    stacks = [stack for stack, found in counts.items() if found == wanted]
    if not stacks:
        numbered = "numbered layers" if count is None else f"{count} layers, which config.json says it has"
        raise MergeError(f"{model} has no {numbered}", hint=_HINT)
    if len(stacks) > 1:
        raise MergeError(f"{model} has {wanted} layers of each of {shortlist(sorted(stacks))}", hint=_HINT)
    return stacks[0], wanted


def stacked(slices: Sequence[SourceLayers]) -> dict[str, Parameter]:
    """Return the parameters of a model of layers, which are numbered anew.

    What comes before the layers, such as embeddings, is that of the first slice. What comes after them, such as the
    last norm and the output layer, is that of the last slice.
    """
    result = {**slices[0].outside(before=True), **slices[-1].outside(before=False)}
    start = 0
    for part in slices:
        for name, parameter in part.parameters.items():
            layer = layer_of(name)
            if layer is not None and layer.stack == part.stack and layer.number in part.layers:
                number = start + layer.number - part.layers.start
                result[f"{slices[0].stack}{number}{layer.rest}"] = parameter
        start += len(part.layers)
    return result


def in_files(parameters: Mapping[str, Parameter], stack: str, most: int) -> list[dict[str, Parameter]]:
    """Divide the parameters of a model between files: what precedes the layers, the layers in order, and the rest.

    Args:
        parameters: The parameters.
        stack: The beginning of the names of those in layers.
        most: The size in bytes of the parameters of a file; a larger parameter has a file of its own.
    """

    def order(name: str) -> tuple[int, int, str]:
        layer = layer_of(name)
        if layer is not None and layer.stack == stack:
            return 1, layer.number, name
        return (0 if _INPUT.match(name) else 2), 0, name

    files: list[dict[str, Parameter]] = [{}]
    size = 0
    for name in sorted(parameters, key=order):
        nbytes = parameters[name].spec.nbytes
        if files[-1] and size + nbytes > most:
            files.append({})
            size = 0
        files[-1][name] = parameters[name]
        size += nbytes
    return files
