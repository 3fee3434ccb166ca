"""Describe an adapter: its kind, the ranks of its LoRAs, and their scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.adapter_config import read_object
from git_theta_ext.merging.planning.adapters import other_adapters
from git_theta_ext.merging.planning.lora_scales import Scaling
from git_theta_ext.model.lora_names import alpha_of, lora_pairs, module_of
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_version import ModelVersion

_LORA = "LORA"


@dataclass(frozen=True)
class AdapterSummary:
    """A description of an adapter.

    Attributes:
        kind: Such as ``LoRA``.
        modules: The number of LoRAs; 0 if it has none.
        ranks: The smallest and the largest rank.
        alphas: The smallest and the largest alpha; None if they are not in a configuration that can be read.
        scales: The smallest and the largest scale, as ``alphas``.
        stabilised: Whether alpha is divided by the square root of the rank (rsLoRA).
        base: The model that it is for, as the configuration names it; empty if that is unknown.
        alpha_tensors: Whether the alphas are tensors.
    """

    kind: str
    modules: int
    ranks: tuple[int, int] = (0, 0)
    alphas: tuple[float, float] | None = None
    scales: tuple[float, float] | None = None
    stabilised: bool = False
    base: str = ""
    alpha_tensors: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "kind": self.kind,
            "modules": self.modules,
            "rank": list(self.ranks) if self.modules else None,
            "alpha": None if self.alphas is None else list(self.alphas),
            "scale": None if self.scales is None else list(self.scales),
            "rslora": self.stabilised,
            "base_model": self.base or None,
        }

    def __str__(self) -> str:
        return ", ".join(self._words())

    def _words(self) -> Iterator[str]:
        yield self.kind
        if self.modules:
            yield f"{self.modules} {'module' if self.modules == 1 else 'modules'}"
            yield f"r {_span(self.ranks)}"
        if self.alphas is not None and self.scales is not None:
            yield f"alpha {_span(self.alphas)} (scale {_span(self.scales)})"
        elif self.alpha_tensors:
            yield "alphas are tensors"
        if self.stabilised:
            yield "rslora"
        if self.base:
            yield f"of {self.base}"


def describe_adapter(version: ModelVersion) -> AdapterSummary | None:
    """Return a description of an adapter; None if a model is none."""
    config, parameters = read_object(version.config or b""), version.parameters
    pairs, others = lora_pairs(parameters), other_adapters(parameters)
    declared = config.get("peft_type")
    if not pairs and not others and not isinstance(declared, str):
        return None
    kinds = dict.fromkeys(kind for kind, _ in others)
    kind = " and ".join(kinds) or ("LoRA" if pairs else str(declared))
    base = config.get("base_model_name_or_path")
    summary = AdapterSummary(kind, len(pairs), base=base if isinstance(base, str) else "")
    return summary if not pairs else _with_pairs(summary, pairs, parameters, config)


def _with_pairs(
    summary: AdapterSummary,
    pairs: Sequence[tuple[str, str]],
    parameters: Mapping[str, Parameter],
    config: Mapping[str, Any],
) -> AdapterSummary:
    ranks = [shape[0] if (shape := parameters[first].spec.shape) else 0 for first, _ in pairs]
    tensors = any(alpha_of(first, parameters) is not None for first, _ in pairs)
    alphas = scales = None
    scaling = Scaling.of(config)
    if config.get("peft_type") == _LORA and not tensors:
        modules = [module_of(first) for first, _ in pairs]
        try:
            alphas = _bounds([scaling.alpha(module) for module in modules])
            scales = _bounds([scaling.scale(module) for module in modules])
        except MergeError:
            alphas = scales = None
    return AdapterSummary(
        summary.kind,
        summary.modules,
        (min(ranks), max(ranks)),
        alphas,
        scales,
        scales is not None and scaling.stabilised,
        summary.base,
        tensors,
    )


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _span(values: Sequence[float]) -> str:
    least, most = values
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
