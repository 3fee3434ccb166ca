"""What the configuration of an adapter asks of merging its LoRAs.

The update of a weight is ``scale * B @ A``, and the scale is in the configuration: alpha over the rank, or over its
root. Sides with different configurations are merged by what their factors do, and the merged factors have to fit the
configuration that the merge leaves. If that cannot be guaranteed, they are in conflict.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.adapters import alpha_of, lora_pairs, module_of, other_adapters
from git_theta_ext.merging.planning.plan import with_decisions
from git_theta_ext.merging.planning.units import pair_of
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.manifest import side_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.planning.units import PairDecision

_KEYS = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
_LITERAL = re.compile(r"[A-Za-z0-9_.\-]{1,500}")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Scaling:
    """Rank and scale of each LoRA, as a configuration has them; equal if that says the same of both.

    Attributes:
        said: Canonical text of what the configuration says of them.
    """

    said: str
    _config: Mapping[str, Any] = field(compare=False, hash=False, default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Scaling:
        """Take from a configuration what it says of ranks and scales."""
        known = {key: config[key] for key in _KEYS if config.get(key) not in (None, {}) and config[key] is not False}
        return cls(json.dumps(known, sort_keys=True), known)

    def rank(self, module: str) -> int:
        """Return the rank of a module's LoRA.

        Raises:
            MergeError: The configuration is not understood.
        """
        value = self._value(module, "rank_pattern", "r", 8)  # PEFT's default
        if type(value) is not int or not 0 < value <= _LARGEST:
            raise MergeError(f"a rank of {value!r:.40}")
        return value

    def scale(self, module: str) -> float:
        """Return what the product of a module's factors is multiplied with.

        Raises:
            MergeError: The configuration is not understood.
        """
        alpha, rank = self._value(module, "alpha_pattern", "lora_alpha", 8), self.rank(module)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < abs(alpha) <= _LARGEST:
            raise MergeError(f"an alpha of {alpha!r:.40}")
        return alpha / (rank**0.5 if self._config.get("use_rslora") else rank)

    def _value(self, module: str, pattern: str, key: str, default: int) -> object:
        patterns = self._config.get(pattern, {})
        if not isinstance(patterns, dict):
            raise MergeError(f"a {pattern} that is no mapping")
        for suffix, value in patterns.items():
            # PEFT takes regular expressions; those that are more than a name are not run.
            name = suffix.removeprefix("^").removesuffix("$")
            if not _LITERAL.fullmatch(name):
                raise MergeError(f"a {pattern} with the expression {suffix!r:.60}")
            if module == name or (module.endswith(f".{name}") and not suffix.startswith("^")):
                return value
        return self._config.get(key, default)


@dataclass(frozen=True)
class Scalings:
    """What a version says of the LoRAs of each of its components, by the beginning of their parameters' names."""

    components: tuple[tuple[str, Scaling], ...] = ()

    def of(self, module: str) -> Scaling | None:
        """Return what it says of a module, None if nothing."""
        return next((scaling for prefix, scaling in self.components if module.startswith(prefix)), None)


@dataclass(frozen=True)
class AdapterScalings:
    """What is known of an adapter's configurations.

    Attributes:
        before: The common ancestor's, None if it has none or it is not known.
        sides: Of each side; empty if they are not known.
        merged: What the merge leaves, None if that cannot be known.
        where: Where they are, for people.
        reason: Why ``merged`` or ``sides`` are not known.
    """

    before: Scalings | None
    sides: tuple[Scalings, ...]
    merged: Scalings | None
    where: str
    reason: str = ""


def three_way(before: Scalings | None, sides: Sequence[Scalings]) -> Scalings | None:
    """Return what a merge of configurations says: what one side changed; None if several changed it differently."""
    changed = {side for side in sides if side != before}
    if len(changed) > 1:
        return None
    return changed.pop() if changed else sides[0]


def config_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the LoRAs that are scaled by a configuration, and not by a tensor that holds alpha."""
    known = dict.fromkeys(names)
    adapted = {name for _, unit in other_adapters(known) for name in unit}
    return [pair for pair in lora_pairs(known) if pair[0] not in adapted and alpha_of(pair[0], known) is None]


def with_scales(plan: Plan, known: AdapterScalings) -> Plan:
    """Merge LoRAs by what they do, such that they fit the configuration that the merge leaves, or not at all."""
    decisions = {decision.name: decision for decision in plan.decisions}
    joint = {pair.names: pair for pair in plan.pairs}
    for names in config_pairs(decisions):
        members = decisions[names[0]], decisions[names[1]]
        try:
            pair = _scaled(members, joint.get(names), known, module_of(names[0]), decisions)
        except MergeError as error:
            joint.pop(names, None)
            reason = Reason.of(ConflictCode.UNIT, f"part of a LoRA: {known.where} of the sides: {error.message}")
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
    known: AdapterScalings,
    module: str,
    decisions: Mapping[str, Decision],
) -> PairDecision | None:
    """Return how a LoRA is merged, None if as it was decided without looking at configurations.

    Raises:
        MergeError: It cannot be merged such that it fits its configuration.
    """
    touched = {number for decision in members for number in decision.changed_by}
    if not touched or any(value is None for decision in members for value in decision.sides):
        return None
    if not known.sides:
        if pair is not None:
            raise MergeError(known.reason)
        return None
    said = [found for side in known.sides if (found := side.of(module)) is not None]
    before = None if known.before is None else known.before.of(module)
    if not said:
        return None
    ranks = [value.spec.shape[0] for value in members[0].sides if value is not None]
    everywhere = len(said) == len(known.sides)
    if everywhere and {*said, before or said[0]} == {said[0]}:
        return pair and _unscaled(pair, said[0], module, {ranks[number] for number in pair.changed_by})
    merged = None if known.merged is None else known.merged.of(module)
    if merged is None or not everywhere:
        raise MergeError("only some of them have one" if known.merged is not None else known.reason)
    changed_by = tuple(n for n, scaling in enumerate(said) if n in touched or before is None or scaling != before)
    return _rescaled(members, changed_by, said, merged, module, ranks, decisions)


def _unscaled(pair: PairDecision, said: Scaling, module: str, ranks: set[int]) -> PairDecision:
    """Let a LoRA whose sides all have one configuration fit it, unless none of them does."""
    rank = pair.specs[pair.names[0]].shape[0]
    if ranks == {rank}:
        return pair
    return _fitted(pair, said.rank(module))


def _rescaled(  # noqa: PLR0913, PLR0917 - all that is known of a LoRA
    members: tuple[Decision, Decision],
    changed_by: tuple[int, ...],
    said: Sequence[Scaling],
    merged: Scaling,
    module: str,
    ranks: Sequence[int],
    decisions: Mapping[str, Decision],
) -> PairDecision | None:
    sides = side_names(len(said))
    rank, scale = merged.rank(module), merged.scale(module)
    for number in changed_by:
        if said[number].rank(module) != ranks[number]:
            raise MergeError(
                f"that of {sides[number]} has rank {said[number].rank(module)}, and its tensors {ranks[number]}"
            )
    scales = tuple(said[number].scale(module) / scale for number in changed_by)
    if len(changed_by) == 1:
        if scales[0] != 1 or ranks[changed_by[0]] != rank:
            raise MergeError(
                f"the merge leaves another one than that of {sides[changed_by[0]]}, who changed the factors"
            )
        return None
    if {*scales} != {1.0} and _changed_biases(module, decisions):
        raise MergeError("they scale a bias, too")
    changed = {decision.name: replace(decision, changed_by=changed_by) for decision in members}
    pair = pair_of(changed, (members[0].name, members[1].name), None)
    if isinstance(pair, str):
        raise MergeError(f"they differ, and {pair}")
    return _fitted(replace(pair, scales=scales), rank)


def _changed_biases(module: str, decisions: Mapping[str, Decision]) -> list[Decision]:
    """Return the decisions on biases of a LoRA that anybody changed; they are scaled with its product."""
    known = (decisions.get(f"{module}.lora_B{adapter}.bias") for adapter in ("", ".default"))
    return [decision for decision in known if decision is not None and decision.changed_by]


def _fitted(pair: PairDecision, rank: int) -> PairDecision:
    """Return a decision whose result has a rank."""
    first, second = pair.names
    if pair.choice.options.get("rank") == 0:
        a, b = pair.specs[first], pair.specs[second]
        specs = {first: replace(a, shape=(rank, a.shape[1])), second: replace(b, shape=(b.shape[0], rank))}
        options = {**pair.choice.options, "rank": float(rank)}
        return replace(pair, specs=specs, choice=replace(pair.choice, options=options))
    found = pair.specs[first].shape[0]
    if found != rank:
        raise MergeError(f"the merge leaves one of rank {rank}, and {pair.choice.method} makes rank {found}")
    return pair
