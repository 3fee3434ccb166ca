"""Merge LoRAs according to the configuration of their adapter.

The update of a weight is ``scale * B @ A``. The scale is in the configuration: alpha over the rank, or over its square
root. If sides have different configurations, their updates are merged, and the merged factors have to fit the merged
configuration. If that cannot be guaranteed, they are in conflict.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.adapters import config_pairs, module_of
from git_theta_ext.merging.planning.plan import with_decisions
from git_theta_ext.merging.planning.units import pair_of
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.planning.units import PairDecision

_KEYS = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
_LITERAL = re.compile(r"[A-Za-z0-9_.\-]{1,500}")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Scaling:
    """Rank and scale of each LoRA according to a configuration.

    Attributes:
        settings: Canonical text of these settings, by which two are equal.
    """

    settings: str
    _config: Mapping[str, Any] = field(compare=False, hash=False, default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Scaling:
        """Return the ranks and scales of a configuration."""
        scaling = {key: config[key] for key in _KEYS if config.get(key) not in (None, {}) and config[key] is not False}
        return cls(json.dumps(scaling, sort_keys=True), scaling)

    def rank(self, module: str) -> int:
        """Return the rank of a module's LoRA.

        Raises:
            MergeError: The configuration is not supported.
        """
        value = self._value(module, "rank_pattern", "r", 8)  # PEFT's default
        if type(value) is not int or not 0 < value <= _LARGEST:
            raise MergeError(f"a rank of {value!r:.40} is not supported")
        return value

    def scale(self, module: str) -> float:
        """Return the factor by which the product of a module's factors is multiplied.

        Raises:
            MergeError: The configuration is not supported.
        """
        alpha, rank = self._value(module, "alpha_pattern", "lora_alpha", 8), self.rank(module)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < abs(alpha) <= _LARGEST:
            raise MergeError(f"an alpha of {alpha!r:.40} is not supported")
        return alpha / (rank**0.5 if self._config.get("use_rslora") else rank)

    def _value(self, module: str, pattern: str, key: str, default: int) -> object:
        patterns = self._config.get(pattern, {})
        if not isinstance(patterns, dict):
            raise MergeError(f"{pattern} is not a mapping")
        for suffix, value in patterns.items():
            # PEFT takes regular expressions. Those that are more than a name are not supported, and not run.
            name = suffix.removeprefix("^").removesuffix("$")
            if not _LITERAL.fullmatch(name):
                raise MergeError(f"the expression {suffix!r:.60} in {pattern} is not supported")
            if module == name or (module.endswith(f".{name}") and not suffix.startswith("^")):
                return value
        return self._config.get(key, default)


@dataclass(frozen=True)
class Scalings:
    """The scaling of the LoRAs in each component of a model, by the prefix of their parameters' names."""

    components: tuple[tuple[str, Scaling], ...] = ()

    def of(self, module: str) -> Scaling | None:
        """Return the scaling of a module's LoRA, or None."""
        return next((scaling for prefix, scaling in self.components if module.startswith(prefix)), None)


@dataclass(frozen=True)
class AdapterScalings:
    """The configurations of an adapter in a merge.

    Attributes:
        before: The common ancestor's; None if it has none or it is unknown.
        sides: The configuration of each side; empty if they are unknown.
        merged: The merged configuration; None if it is unknown.
        where: Where they are, for people.
        reason: Why ``merged`` or ``sides`` are unknown.
    """

    before: Scalings | None
    sides: tuple[Scalings, ...]
    merged: Scalings | None
    where: str
    reason: str = ""


def three_way(before: Scalings | None, sides: Sequence[Scalings]) -> Scalings | None:
    """Merge configurations: return the one that a side changed, or None if several changed it differently."""
    changed = {side for side in sides if side != before}
    if len(changed) > 1:
        return None
    return changed.pop() if changed else sides[0]


def with_scales(plan: Plan, scalings: AdapterScalings) -> Plan:
    """Return a plan whose merged LoRAs fit the merged configuration; LoRAs that cannot fit it are in conflict."""
    decisions = {decision.name: decision for decision in plan.decisions}
    joint = {pair.names: pair for pair in plan.pairs}
    for names in config_pairs(decisions):
        members = decisions[names[0]], decisions[names[1]]
        try:
            pair = _scaled(members, joint.get(names), scalings, module_of(names[0]), decisions)
        except MergeError as error:
            joint.pop(names, None)
            reason = Reason.of(ConflictCode.UNIT, f"part of a LoRA: {scalings.where} of the sides: {error.message}")
            affected = [*members, *_changed_biases(module_of(names[0]), decisions)]
            decisions.update({decision.name: decision.in_conflict(reason) for decision in affected})
            continue
        if pair is not None:
            joint[names] = pair
            decisions.update(
                {d.name: replace(d, action="compute", source=None, into=None, choice=pair.choice) for d in members}
            )
    if joint == {pair.names: pair for pair in plan.pairs} and tuple(decisions.values()) == plan.decisions:
        return plan
    return with_decisions(plan, tuple(decisions.values()), tuple(joint.values()))


def _scaled(
    members: tuple[Decision, Decision],
    pair: PairDecision | None,
    scalings: AdapterScalings,
    module: str,
    decisions: Mapping[str, Decision],
) -> PairDecision | None:
    """Return how a LoRA is merged; None if the configurations do not change the decision on it.

    Raises:
        MergeError: It cannot be merged in a way that fits its configuration.
    """
    touched = {number for decision in members for number in decision.changed_by}
    if not touched or any(value is None for decision in members for value in decision.sides):
        return None
    if not scalings.sides:
        if pair is not None:
            raise MergeError(scalings.reason)
        return None
    settings = [scaling for side in scalings.sides if (scaling := side.of(module)) is not None]
    before = None if scalings.before is None else scalings.before.of(module)
    if not settings:
        return None
    ranks = [value.spec.shape[0] for value in members[0].sides if value is not None]
    everywhere = len(settings) == len(scalings.sides)
    if everywhere and {*settings, before or settings[0]} == {settings[0]}:
        return pair and _unscaled(pair, settings[0], module, {ranks[number] for number in pair.changed_by})
    merged = None if scalings.merged is None else scalings.merged.of(module)
    if merged is None or not everywhere:
        raise MergeError("only some sides have one" if scalings.merged is not None else scalings.reason)
    changed_by = tuple(n for n, scaling in enumerate(settings) if n in touched or before is None or scaling != before)
    return _rescaled(members, changed_by, settings, merged, module, ranks, decisions)


def _unscaled(pair: PairDecision, settings: Scaling, module: str, ranks: set[int]) -> PairDecision:
    """Fit a LoRA to the configuration that all sides share, unless none of them fits it."""
    rank = pair.specs[pair.names[0]].shape[0]
    if ranks == {rank}:
        return pair
    return _fitted(pair, settings.rank(module))


def _rescaled(  # noqa: PLR0913, PLR0917 - a LoRA depends on these
    members: tuple[Decision, Decision],
    changed_by: tuple[int, ...],
    settings: Sequence[Scaling],
    merged: Scaling,
    module: str,
    ranks: Sequence[int],
    decisions: Mapping[str, Decision],
) -> PairDecision | None:
    sides = side_names(len(settings))
    rank, scale = merged.rank(module), merged.scale(module)
    for number in changed_by:
        if settings[number].rank(module) != ranks[number]:
            raise MergeError(
                f"that of {sides[number]} has rank {settings[number].rank(module)}, but its tensors have"
                f" rank {ranks[number]}"
            )
    scales = tuple(settings[number].scale(module) / scale for number in changed_by)
    if len(changed_by) == 1:
        if scales[0] != 1 or ranks[changed_by[0]] != rank:
            raise MergeError(f"the merged one is not that of {sides[changed_by[0]]}, which changed the factors")
        return None
    if {*scales} != {1.0} and _changed_biases(module, decisions):
        raise MergeError("they also scale a bias")
    changed = {decision.name: replace(decision, changed_by=changed_by) for decision in members}
    pair = pair_of(changed, (members[0].name, members[1].name), None)
    if isinstance(pair, str):
        raise MergeError(f"they differ, and {pair}")
    return _fitted(replace(pair, scales=scales), rank)


def _changed_biases(module: str, decisions: Mapping[str, Decision]) -> list[Decision]:
    """Return the decisions on changed biases of a LoRA, which are scaled like its product."""
    scalings = (decisions.get(f"{module}.lora_B{adapter}.bias") for adapter in ("", ".default"))
    return [decision for decision in scalings if decision is not None and decision.changed_by]


def _fitted(pair: PairDecision, rank: int) -> PairDecision:
    """Return a decision whose result has a given rank."""
    first, second = pair.names
    if pair.choice.options.get("rank") == 0:
        a, b = pair.specs[first], pair.specs[second]
        specs = {first: replace(a, shape=(rank, a.shape[1])), second: replace(b, shape=(b.shape[0], rank))}
        options = {**pair.choice.options, "rank": float(rank)}
        return replace(pair, specs=specs, choice=replace(pair.choice, options=options))
    merged_rank = pair.specs[first].shape[0]
    if merged_rank != rank:
        raise MergeError(f"the merged one has rank {rank}, but {pair.choice.method} gives rank {merged_rank}")
    return pair
