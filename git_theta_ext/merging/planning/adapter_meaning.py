"""Keep the parameters of an adapter that is no LoRA apart if its configuration says that they mean different things.

The vectors of IA3, the prompts of prompt tuning or the frequencies of FourierFT are merged like any parameter. But a
random seed or a block size in the configuration decides what they stand for: those of another seed cannot be merged
with them, nor used with the merged configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.merging.planning.adapter_config import canonical, merge_configs, read_object
from git_theta_ext.merging.planning.lora_scales import base_model
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.shards import CONFIG
from git_theta_ext.records import replace
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan

_LORA = "LORA"
_HARMLESS = frozenset(
    {
        "auto_mapping",
        "bias",
        "exclude_modules",
        "feedforward_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "modules_to_save",
        "peft_version",
        "revision",
        "target_modules",
        "task_type",
    }
)


def with_one_meaning(plan: Plan, before: bytes | None, sides: Sequence[bytes | None]) -> Plan:
    """Return a plan that leaves parameters in conflict which the merged configuration gives another meaning.

    Args:
        plan: The plan of merging an adapter.
        before: The configuration of the common ancestor; None if there is none.
        sides: The configuration of each side.
    """
    merged = merge_configs(before, sides)
    configs = [read_object(side or b"") for side in sides]
    if merged is None or all(config.get("peft_type") == _LORA for config in configs):
        return plan
    keys = sorted({key for config in configs for key in differing_meaning(config, merged.content)})
    fitting = {number for number, config in enumerate(configs) if not differing_meaning(config, merged.content)}
    if not keys:
        return plan
    reason = Reason.of(ConflictCode.UNIT, f"{CONFIG} of the sides: {shortlist(keys)} differ")
    rows = tuple(row if _origins(row) <= fitting else row.in_conflict(reason) for row in plan.decisions)
    return replace(plan, decisions=rows)


def differing_meaning(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the settings by which two configurations give the parameters of an adapter different meanings."""
    meanings = _meaning(one), _meaning(other)
    return [key for key in dict.fromkeys([*meanings[0], *meanings[1]]) if meanings[0].get(key) != meanings[1].get(key)]


def _origins(decision: Decision) -> set[int]:
    """Return the sides that a changed value comes from."""
    names = side_names(len(decision.sides))
    if not decision.changed_by or decision.action == "conflict" or decision.source == "base":
        return set()
    return set(decision.changed_by) if decision.source is None else {names.index(decision.source)}


def _meaning(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that say what the parameters stand for."""
    others = {key: value for key, value in config.items() if key not in _HARMLESS and not _only_trains(key, value)}
    found = {key: canonical(value) for key, value in others.items()}
    return found | {"base_model_name_or_path": base_model(config)}


def _only_trains(key: str, value: object) -> bool:
    """Return whether a setting matters for training only."""
    return "dropout" in key or ("init" in key and not isinstance(value, str))
