"""Read the scalings of an adapter on each side of a merge, from its configuration file or its metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from git_theta_ext.merging.planning.adapter_config import merge_configs, read_object
from git_theta_ext.merging.planning.adapter_scalings import AdapterScalings, three_way
from git_theta_ext.merging.planning.adapters import has_scaled_pairs
from git_theta_ext.merging.planning.layouts import facts_of_sides
from git_theta_ext.merging.planning.lora_scales import Scaling, Scalings
from git_theta_ext.merging.planning.scaling import with_scales
from git_theta_ext.model.shards import CONFIG
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.store import Store

_DIFFUSERS = "lora_adapter_metadata"
_KOHYA_ALPHA, _KOHYA_RANK = "ss_network_alpha", "ss_network_dim"
_DIFFER = f"they differ; write the merged adapter's into {CONFIG}, then resolve by lora_svd, or take a side"
_UNKNOWN = "git does not say which commits are merged; take a side"
_NOT_READ = "it may differ; take a side"


@dataclass(frozen=True)
class AdapterFiles:
    """The adapter configurations in the directory of a checkpoint in some commits; None if there is none.

    Attributes:
        sides: The configuration in the commit of each side; empty if the commits are not known.
        ancestors: The configuration in each of their best common ancestors.
        head: The configuration in the current commit.
        written: Whether the merge writes the merged configuration.
    """

    sides: tuple[bytes | None, ...]
    ancestors: tuple[bytes | None, ...]
    head: bytes | None
    written: bool = False


def files_of(versions: ModelVersions) -> AdapterFiles | None:
    """Return the configurations of the versions of an adapter, which are files of it; None if it has none."""
    if not versions.configured:
        return None
    before = () if versions.base is None else (versions.base.config,)
    return AdapterFiles(tuple(side.config for side in versions.sides), before, versions.sides[0].config, written=True)


def with_adapter_scales(plan: Plan, store: Store, files: AdapterFiles) -> Plan:
    """Return the plan with LoRAs scaled by the configurations of their adapters.

    Args:
        plan: The plan of a merge of LoRAs.
        store: The store with the layouts.
        files: The configurations in the directory of the checkpoint.

    Raises:
        MissingError: A layout is not in the store.
        CorruptError: A layout in the store is damaged.
    """
    scalings = _in_metadata(plan, store) or _beside(files, len(plan.sides))
    return plan if scalings is None else with_scales(plan, scalings)


def scales_to_resolve(store: Store, files: AdapterFiles | None, config: bytes | None) -> Callable[[Plan], Plan]:
    """Return a function that scales resolved LoRAs to fit the adapter configuration of the resolved checkpoint.

    Args:
        store: The store with the layouts.
        files: The configurations in the directory of the checkpoint; None if no LoRA is in conflict.
        config: The configuration in the directory of the resolved checkpoint; None if there is none.
    """

    def scaled(plan: Plan) -> Plan:
        computed = (decision.name for decision in plan.decisions if decision.action == "compute")
        if files is None or not has_scaled_pairs(computed):
            return plan
        if any(scalings_in(facts) is not None for facts in facts_of_sides(plan, store).sides):
            return with_scales(plan, AdapterScalings(None, (), None, "the metadata", _NOT_READ))
        scalings = _beside(files, len(plan.sides))
        if scalings is None:
            return plan
        merged = _scalings_of(config) if scalings.sides else None
        return with_scales(plan, replace(scalings, merged=merged, of_any_base=True))

    return scaled


def _in_metadata(plan: Plan, store: Store) -> AdapterScalings | None:
    """Return the configurations in the file's header."""
    facts_by_side = facts_of_sides(plan, store)
    sides = [scalings_in(facts) for facts in facts_by_side.sides]
    if all(side is None for side in sides):
        return None
    before = None if facts_by_side.before is None else scalings_in(facts_by_side.before) or Scalings()
    merged = scalings_in(facts_by_side.merged) or Scalings()
    return AdapterScalings(before, tuple(side or Scalings() for side in sides), merged, "the metadata")


def scalings_in(facts: Mapping[str, bytes]) -> Scalings | None:
    """Return the scalings that diffusers or kohya's scripts wrote into the metadata of a file.

    Args:
        facts: The metadata, as ``Format.facts`` returns it.

    Returns:
        The scalings, without any for metadata that cannot be read; None if neither of them wrote metadata.
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


def _components(data: bytes) -> Scalings:
    config: dict[str, dict[str, Any]] = {}
    for key, value in read_object(_text(data)).items():
        component, _, name = key.partition(".")
        config.setdefault(component, {})[name] = value
    components = ((f"{component}.", settings) for component, settings in sorted(config.items()))
    return Scalings(tuple((prefix, Scaling.of(settings, prefix)) for prefix, settings in components))


def _text(data: bytes | None) -> bytes:
    """Return the text that a metadata value holds."""
    try:
        value = json.loads(data or b'""')
    except (ValueError, RecursionError):
        return b""
    return value.encode() if isinstance(value, str) else b""


def _beside(files: AdapterFiles, sides: int) -> AdapterScalings | None:
    """Return the scalings that PEFT wrote into the configuration file of the adapter."""
    if len(files.sides) != sides:
        return AdapterScalings(None, (), None, CONFIG, _UNKNOWN) if _scalings_of(files.head).components else None
    ancestors = set(map(_scalings_of, files.ancestors))
    before = ancestors.pop() if len(ancestors) == 1 else None
    scalings = tuple(map(_scalings_of, files.sides))
    if not any(side.components for side in scalings):
        return None
    written = None
    if files.written and all(side.components for side in scalings):
        written = merge_configs(next(iter(files.ancestors), None), files.sides)
    return AdapterScalings(before, scalings, three_way(before, scalings), CONFIG, _DIFFER, written)


def _scalings_of(config: bytes | None) -> Scalings:
    settings = read_object(config or b"")
    return Scalings((("", Scaling.of(settings)),)) if settings.get("peft_type") == "LORA" else Scalings()
