"""Name the parameters of dense models as those of a mixture of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.experts.layouts import DENSE, DOWN, UP
from git_theta_ext.merging.rules.layers import layer_of
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.merging.experts.layouts import ExpertLayout
    from git_theta_ext.model.manifest import Parameter

_HINT = "git theta moe -h lists the architectures; git theta ls-files --params lists the parameters"


@dataclass(frozen=True)
class DenseLayers:
    """The layers of dense models that become those of a mixture.

    Attributes:
        layout: The layout of the mixture.
        stack: The beginning of the names of the parameters in layers, such as ``model.layers.``.
        count: The number of layers.
    """

    layout: ExpertLayout
    stack: str
    count: int

    def name(self, number: int, rest: str) -> str:
        """Return the name of a parameter in a layer."""
        return f"{self.stack}{number}{rest}"

    def dense(self, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
        """Return the parameters that become those of experts."""
        return {name: value for name, value in parameters.items() if (self._rest(name) or "").startswith(DENSE)}

    def sizes(self, parameters: Mapping[str, Parameter]) -> tuple[int, int]:
        """Return the size of an expert, and of a layer."""
        rows, columns = parameters[self.name(0, UP)].spec.shape
        return rows, columns

    def check(self, names: Iterable[str], model: str) -> None:
        """Check whether a mixture has all parameters of a dense model.

        Args:
            names: The names of its parameters.
            model: The model, for errors.

        Raises:
            MergeError: One is missing, or has no place in the mixture.
        """
        found = set(names)
        for name in found:
            rest = self._rest(name) or ""
            bias = rest.endswith(".bias") and not self.layout.biases
            if bias or (rest.startswith(DENSE) and rest not in self.layout.experts):
                raise MergeError(f"{model}: {name} has no place in {self.layout.model_type}", hint=_HINT)
        wanted = (self.name(number, rest) for number in range(self.count) for rest in self.layout.experts)
        if lacking := next((name for name in wanted if name not in found), None):
            raise MergeError(f"{model} has no parameter {lacking}", hint=_HINT)

    def mixed(
        self,
        outside: Mapping[str, Parameter],
        experts: Sequence[Mapping[str, Parameter]],
        made: Mapping[str, Parameter],
    ) -> dict[str, Parameter]:
        """Return the parameters of a mixture.

        Args:
            outside: Those of the model whose parameters outside of experts are taken.
            experts: Those of the model of each expert.
            made: Those that no model has: routers, and what an expert that every token takes begins with.
        """
        result = {}
        for name, value in outside.items():
            layer = layer_of(name)
            if layer is None or layer.stack != self.stack or not layer.rest.startswith(DENSE):
                result[name] = value
                continue
            for number, expert in enumerate(experts):
                result[self.name(layer.number, self.layout.experts[layer.rest].format(number))] = expert[name]
            if layer.rest in self.layout.shared and layer.rest != DOWN:
                result[self.name(layer.number, self.layout.shared[layer.rest])] = value
        return result | dict(made)

    def _rest(self, name: str) -> str | None:
        """Return the name in a layer; None outside of layers."""
        layer = layer_of(name)
        return None if layer is None or layer.stack != self.stack else layer.rest
