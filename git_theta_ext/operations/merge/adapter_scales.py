"""What the configurations of an adapter say on each side of a merge: in a file beside it, or in its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.merging.planning.layouts import facts_of_sides
from git_theta_ext.merging.planning.scaling import (
    AdapterScalings,
    Scaling,
    Scalings,
    config_pairs,
    three_way,
    with_scales,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.store import Store

CONFIG = "adapter_config.json"
_DIFFUSERS = "lora_adapter_metadata"
_KOHYA_ALPHA, _KOHYA_RANK = "ss_network_alpha", "ss_network_dim"
MOST_CONFIG_BYTES = 1 << 20
_DIFFER = f"they differ; write the merged adapter's into {CONFIG}, then resolve by lora_svd, or take a side"
_UNKNOWN = "git does not say which commits are merged; take a side"
_NOT_READ = "it may differ; take a side"


@dataclass(frozen=True)
class AdapterFiles:
    """The configurations of an adapter that lie beside a checkpoint in some commits; None if there is none.

    Attributes:
        sides: In the commit of each side; empty if the commits are not known.
        ancestors: In each of their best common ancestors.
        head: In the current commit.
    """

    sides: tuple[bytes | None, ...]
    ancestors: tuple[bytes | None, ...]
    head: bytes | None


def has_adapter_pairs(names: Iterable[str], changed: AbstractSet[str] | None = None) -> bool:
    """Return whether some parameters have factors of LoRAs among them, changed ones if these are given."""
    pairs = config_pairs(names)
    return any(changed is None or not changed.isdisjoint(pair) for pair in pairs)


def with_adapter_scales(plan: Plan, store: Store, files: AdapterFiles) -> Plan:
    """Let LoRAs be merged by their configurations.

    Args:
        plan: The plan of a merge of LoRAs.
        store: Holds the layouts.
        files: The configurations beside the checkpoint.

    Raises:
        MissingError: A layout is not in the store.
        CorruptError: A layout in the store is damaged.
    """
    known = _in_metadata(plan, store) or _beside(files, len(plan.sides))
    return plan if known is None else with_scales(plan, known)


def scales_to_resolve(store: Store, files: AdapterFiles | None, config: bytes | None) -> Callable[[Plan], Plan]:
    """Return what lets LoRAs that are resolved fit a configuration that is there by now.

    Args:
        store: Holds the layouts.
        files: The configurations beside the checkpoint; None if no LoRA is in conflict.
        config: The configuration beside the resolved checkpoint; None if there is none.
    """

    def scaled(plan: Plan) -> Plan:
        computed = (decision.name for decision in plan.decisions if decision.action == "compute")
        if files is None or not has_adapter_pairs(computed):
            return plan
        if any(scalings_in(facts) is not None for facts in facts_of_sides(plan, store).sides):
            return with_scales(plan, AdapterScalings(None, (), None, "the metadata", _NOT_READ))
        known = _beside(files, len(plan.sides))
        if known is None:
            return plan
        return with_scales(plan, replace(known, merged=_scalings_of(config)) if known.sides else known)

    return scaled


def _in_metadata(plan: Plan, store: Store) -> AdapterScalings | None:
    """Return the configurations in the file's header."""
    found = facts_of_sides(plan, store)
    sides = [scalings_in(facts) for facts in found.sides]
    if all(side is None for side in sides):
        return None
    before = None if found.before is None else scalings_in(found.before) or Scalings()
    merged = scalings_in(found.merged) or Scalings()
    return AdapterScalings(before, tuple(side or Scalings() for side in sides), merged, "the metadata")


def scalings_in(facts: Mapping[str, bytes]) -> Scalings | None:
    """Return the scalings that diffusers or kohya's scripts wrote into the metadata of a file.

    Args:
        facts: The metadata, as ``Format.facts`` returns it.

    Returns:
        The scalings, none for metadata that cannot be read; None if neither wrote any.
    """
    if _DIFFUSERS in facts:
        return _components(facts[_DIFFUSERS])
    if _KOHYA_ALPHA in facts:
        return _kohya(facts)
    return None


def _kohya(facts: Mapping[str, bytes]) -> Scalings:
    """Return one alpha and one rank for all modules; the scripts write numbers as text."""
    try:
        alpha, rank = float(_text(facts[_KOHYA_ALPHA])), int(_text(facts.get(_KOHYA_RANK)))
    except ValueError:
        return Scalings()
    return Scalings((("", Scaling.of({"lora_alpha": alpha, "r": rank})),))


def _components(said: bytes) -> Scalings:
    config: dict[str, dict[str, Any]] = {}
    for key, value in _object(_text(said)).items():
        component, _, name = key.partition(".")
        config.setdefault(component, {})[name] = value
    return Scalings(tuple((f"{component}.", Scaling.of(found)) for component, found in sorted(config.items())))


def _text(said: bytes | None) -> bytes:
    """Return the text that a metadata value holds."""
    try:
        value = json.loads(said or b'""')
    except (ValueError, RecursionError):
        return b""
    return value.encode() if isinstance(value, str) else b""


def _beside(files: AdapterFiles, sides: int) -> AdapterScalings | None:
    """Return what PEFT wrote into a file beside the checkpoint."""
    if len(files.sides) != sides:
        return AdapterScalings(None, (), None, CONFIG, _UNKNOWN) if _scalings_of(files.head).components else None
    ancestors = set(map(_scalings_of, files.ancestors))
    before = ancestors.pop() if len(ancestors) == 1 else None
    found = tuple(map(_scalings_of, files.sides))
    if not any(side.components for side in found):
        return None
    return AdapterScalings(before, found, three_way(before, found), CONFIG, _DIFFER)


def _scalings_of(config: bytes | None) -> Scalings:
    found = _object(config or b"")
    return Scalings((("", Scaling.of(found)),)) if found.get("peft_type") == "LORA" else Scalings()


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
