"""Merge LoRAs according to the configuration of their adapter.

If sides have different configurations, the updates that their factors make are merged. The merged factors and the
merged configuration have to fit: a merge that writes the configuration fits it to the factors. If something else merges
it, the factors are made to fit the result, and are in conflict if that is not possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.adapter_scalings import MergedAdapter
from git_theta_ext.merging.planning.adapters import other_adapters, scaled_pairs
from git_theta_ext.merging.planning.lora_scales import Fit
from git_theta_ext.merging.planning.plan import with_decisions
from git_theta_ext.merging.planning.units import pair_of
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.lora_names import module_of
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.merging.planning.adapter_scalings import AdapterScalings
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.lora_scales import Scaling
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.planning.units import PairDecision


def with_scales(plan: Plan, scalings: AdapterScalings) -> Plan:
    """Return a plan whose merged LoRAs fit the merged configuration; LoRAs that cannot fit it are in conflict."""
    decisions = {decision.name: decision for decision in plan.decisions}
    joint = {pair.names: pair for pair in plan.pairs}
    adapted = {name: unit for _, unit in other_adapters(decisions) for name in unit}
    factors = {names: module_of(names[0]) for names in scaled_pairs(decisions)}
    config = scalings.written
    if config is not None and not _is_supported(scalings, factors.values()):
        scalings = replace(scalings, written=None)
    fits: dict[str, Fit] = {}
    ours: dict[str, Fit] = {}
    for names, module in factors.items():
        lora = _Lora(
            (decisions[names[0]], decisions[names[1]]), joint.get(names), scalings, module, names[0] in adapted
        )
        biases = _biases(module, decisions)
        try:
            merged = lora.merged(biases)
        except MergeError as error:
            reason = Reason.of(ConflictCode.UNIT, f"part of a LoRA: {scalings.where} of the sides: {error.message}")
            others = [row for name in adapted.get(names[0], ()) if (row := decisions[name]).changed_by]
            others += [row for row in biases if row.changed_by]
            affected = {row.name: row.in_conflict(reason) for row in (*lora.members, *others)}
            merged = _MergedLora(None, None, tuple(affected.values()))
        decisions.update({decision.name: decision for decision in merged.decisions})
        if merged.pair is None:
            joint.pop(names, None)
        else:
            joint[names] = merged.pair
        if scalings.written is not None and (own := lora.fit_of(0)) is not None:
            ours[module] = own
            fits[module] = merged.fit or own
        elif scalings.written is not None and merged.fit is not None:
            fits[module] = merged.fit
    rows, pairs = tuple(decisions.values()), tuple(joint.values())
    if rows != plan.decisions or pairs != plan.pairs:
        plan = with_decisions(plan, rows, pairs)
    if config is None:
        return plan
    adapter = MergedAdapter(config, fits, ours, {names[0]: module for names, module in factors.items()})
    return replace(plan, adapter=adapter)


def _is_supported(scalings: AdapterScalings, modules: Iterable[str]) -> bool:
    """Return whether all ranks and scales are known, without which a configuration cannot be fitted."""
    every = [side for side in (scalings.before, *scalings.sides) if side is not None]
    try:
        for module in modules:
            for side in every:
                scaling = side.of(module)
                if scaling is not None:
                    scaling.fit(module)
    except MergeError:
        return False
    return True


@dataclass(frozen=True)
class _MergedLora:
    """How a LoRA is merged: its rank and scale, how its factors are merged, and the decisions that change."""

    fit: Fit | None
    pair: PairDecision | None = None
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class _Lora:
    """A LoRA in a merge.

    Attributes:
        members: The decisions on its factors.
        pair: How its factors are merged; None if they are not.
        scalings: The configurations.
        module: The module that it belongs to.
        adapted: Whether it is part of another adapter, such as DoRA, whose factors are not merged.
    """

    members: tuple[Decision, Decision]
    pair: PairDecision | None
    scalings: AdapterScalings
    module: str
    adapted: bool

    def merged(self, biases: Sequence[Decision]) -> _MergedLora:
        """Return how it is merged.

        Args:
            biases: The decisions on its biases, which are scaled as the product is.

        Raises:
            MergeError: It cannot be merged in a way that fits its configuration.
        """
        scalings = self.scalings
        touched = {number for decision in self.members for number in decision.changed_by}
        if not scalings.sides and self.pair is not None:
            raise MergeError(scalings.reason)
        if not scalings.sides:
            return _MergedLora(None)
        if any(d.action == "conflict" for d in self.members):
            return _MergedLora(self.fit_of(0) if scalings.written is not None else None)
        if any(value is None for d in self.members for value in d.sides):
            return _MergedLora(self._taken_fit())
        settings = [scaling for side in scalings.sides if (scaling := side.of(self.module)) is not None]
        before = None if scalings.before is None else scalings.before.of(self.module)
        everywhere = len(settings) == len(scalings.sides)
        if not settings or (everywhere and {*settings, before or settings[0]} == {settings[0]}):
            return self._with_one_scale(settings, biases) if settings else _MergedLora(None, self.pair)
        if not touched and scalings.written is None:
            return _MergedLora(None)
        if not everywhere or scalings.target(self.module) is None:
            raise MergeError("only some sides have one" if scalings.merged is not None else scalings.reason)
        return self._with_scales(touched, before, settings, biases)

    def fit_of(self, number: int) -> Fit | None:
        """Return rank and scale of a side's LoRA; None if it has none."""
        scaling = self.scalings.sides[number].of(self.module) if self.scalings.sides else None
        return None if scaling is None or self.members[0].sides[number] is None else scaling.fit(self.module)

    def _taken_fit(self) -> Fit | None:
        """Return rank and scale of a LoRA that is taken from a side, if they are needed."""
        source = self.members[0].source
        return None if self.scalings.written is None or source is None else self._fit_of_source(source)

    def _fit_of_source(self, source: str) -> Fit | None:
        if source == "base":
            before = None if self.scalings.before is None else self.scalings.before.of(self.module)
            return None if before is None or self.members[0].base is None else before.fit(self.module)
        return self.fit_of(side_names(len(self.members[0].sides)).index(source))

    def _with_one_scale(self, settings: Sequence[Scaling], biases: Sequence[Decision]) -> _MergedLora:
        """Merge a LoRA that has the same configuration on all sides, which the merged one fits unless no side does."""
        if self.pair is None:
            return _MergedLora(self._taken_fit())
        self._check_meaning(settings, self.pair.changed_by)
        rank = self.pair.specs[self.pair.names[0]].shape[0]
        if self.scalings.written is None:
            fits = {self._rank(number) for number in self.pair.changed_by} == {rank}
            return _MergedLora(None, self.pair if fits else _fitted(self.pair, settings[0].rank(self.module)))
        pair, fit = self._fitted(self.pair, settings, biases)
        return _MergedLora(fit, pair)

    def _with_scales(
        self, touched: set[int], before: Scaling | None, settings: Sequence[Scaling], biases: Sequence[Decision]
    ) -> _MergedLora:
        """Merge a LoRA by the updates that its factors make with the scales of their sides."""
        fits = [scaling.fit(self.module) for scaling in settings]
        old = None if before is None else before.fit(self.module)
        changed_by = tuple(number for number, fit in enumerate(fits) if number in touched or fit != old)
        names = self._names(range(len(settings)))
        versions = {(*(d.sides[number] for d in self.members), fits[number]) for number in changed_by}
        if len(versions) <= 1:
            return self._taken(names[changed_by[0] if changed_by else 0])
        if self.members[0].choice.method in {*names, "base"}:
            return self._taken(self.members[0].choice.method)
        if self.adapted:
            raise MergeError("they differ, and its factors are not merged one by one")
        self._check_meaning(settings, changed_by)
        for number in changed_by:
            if fits[number].rank != self._rank(number):
                raise MergeError(
                    f"that of {names[number]} has rank {fits[number].rank}, but its tensors have"
                    f" rank {self._rank(number)}"
                )
        changed = {decision.name: replace(decision, changed_by=changed_by) for decision in self.members}
        pair = pair_of(changed, (self.members[0].name, self.members[1].name), None)
        if isinstance(pair, str):
            raise MergeError(f"they differ, and {pair}")
        pair, fit = self._fitted(pair, settings, biases)
        rows = (replace(d, action="compute", source=None, into=None, choice=pair.choice) for d in self.members)
        return _MergedLora(fit, pair, tuple(rows))

    def _fitted(
        self, pair: PairDecision, settings: Sequence[Scaling], biases: Sequence[Decision]
    ) -> tuple[PairDecision, Fit]:
        """Return a merge with the rank of the merged configuration, unless the configuration is fitted to the merge."""
        target = self.scalings.target(self.module)
        assert target is not None
        fit = target.fit(self.module)
        if self.scalings.written is None or (self.scalings.merged is not None and pair.choice.options.get("rank") == 0):
            pair = _fitted(pair, fit.rank)
        else:
            rank = pair.specs[pair.names[0]].shape[0]
            fit = Fit(rank, fit.scale) if biases else target.fit(self.module, rank)
        scales = tuple(settings[number].fit(self.module).scale / fit.scale for number in pair.changed_by)
        if {*scales} != {1.0} and any(bias.changed_by for bias in biases):
            raise MergeError("they also scale a bias")
        return replace(pair, scales=() if {*scales} == {1.0} else scales), fit

    def _taken(self, source: str) -> _MergedLora:
        """Take the factors of a side, with their scale."""
        fit, target = self._fit_of_source(source), self.scalings.target(self.module)
        if self.scalings.written is None and (target is None or target.fit(self.module) != fit):
            raise MergeError(f"the merged one is not that of {source}, whose factors are taken")
        rows = (replace(decision, action="take", source=source, into=None) for decision in self.members)
        return _MergedLora(fit, None, tuple(rows))

    def _check_meaning(self, settings: Sequence[Scaling], changed_by: Sequence[int]) -> None:
        """Check that the factors of several sides stand for the same kind of update of the same model."""
        bases: dict[str, str] = {}
        for number, name in zip(changed_by, self._names(changed_by), strict=True):
            settings[number].check_plain()
            bases.setdefault(settings[number].base, name)
        if len(bases.keys() - {""}) > 1 and not self.scalings.of_any_base:
            adapted = [f"{name} adapts {base}" for base, name in bases.items() if base]
            raise MergeError(", ".join(adapted))
        meanings = dict.fromkeys(settings[number].meaning for number in changed_by)
        if len(meanings) > 1:
            raise MergeError(f"the factors stand for different updates: {' and '.join(meanings)}")

    def _rank(self, number: int) -> int:
        value = self.members[0].sides[number]
        return 0 if value is None else value.spec.shape[0]

    def _names(self, numbers: Iterable[int]) -> list[str]:
        names = side_names(len(self.members[0].sides))
        return [names[number] for number in numbers]


def _biases(module: str, decisions: Mapping[str, Decision]) -> list[Decision]:
    """Return the decisions on the biases of a LoRA, which are scaled like its product."""
    found = (decisions.get(f"{module}.lora_B{adapter}.bias") for adapter in ("", ".default"))
    return [decision for decision in found if decision is not None]


def _fitted(pair: PairDecision, rank: int) -> PairDecision:
    """Return a decision whose result has a given rank."""
    first, second = pair.names
    if pair.choice.options.get("rank") == 0:
        a, b = pair.specs[first], pair.specs[second]
        specs = {
            first: replace(a, shape=(rank, *a.shape[1:])),
            second: replace(b, shape=(b.shape[0], rank, *b.shape[2:])),
        }
        options = {**pair.choice.options, "rank": float(rank)}
        return replace(pair, specs=specs, choice=replace(pair.choice, options=options))
    merged_rank = pair.specs[first].shape[0]
    if merged_rank != rank:
        raise MergeError(f"the merged one has rank {rank}, but {pair.choice.method} gives rank {merged_rank}")
    return pair
