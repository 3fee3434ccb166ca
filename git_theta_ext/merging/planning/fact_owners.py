"""Find the metadata that describe quantised weights: their values come from the side that the weight comes from.

torchao describes each weight in the metadata of a safetensors file, under the weight's name. GGUF has the type of most
tensors, and the version of the block formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.units import QUANTISED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.units import Unit

_OF_ALL_BLOCKS = ("general.file_type", "general.quantization_version")


def fact_owners(plan: Plan) -> dict[str, str | None]:
    """Return the keys that describe quantised weights, and the side that each comes from; None in a conflict."""
    decisions = {decision.name: decision for decision in plan.decisions}
    sides: dict[str, str | None] = {}
    of_blocks: set[str | None] = set()
    for unit in plan.units:
        sources = _sources(unit, decisions) if unit.kind == QUANTISED else set()
        if not sources:
            continue
        side = next(iter(sources)) if len(sources) == 1 else None
        sides |= dict.fromkeys((unit.name, f"{unit.name}.weight"), side)
        if plan.ours.format == "gguf":
            of_blocks.add(side)
    if None in of_blocks:
        of_blocks = {None}
    return sides | {key: side for side in of_blocks if len(of_blocks) == 1 for key in _OF_ALL_BLOCKS}


def _sources(unit: Unit, decisions: Mapping[str, Decision]) -> set[str | None]:
    """Return the sides that changed parts of a weight are taken from; None for parts in conflict."""
    parts = [decisions[name] for name in unit.members if name in decisions]
    return {decision.source for decision in parts if decision.changed_by}
