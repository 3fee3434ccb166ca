"""Merge a model of several files as one: decide on all parameters together, then divide the result between files.

Thresholds, units and the memory are those of the whole model, so its values are the same in one file and in many.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.merging.apply import compute, lay_out
from git_theta_ext.merging.outcome import Outcome, is_structural, outcome_of
from git_theta_ext.merging.planning.adapter_config import merge_configs
from git_theta_ext.merging.planning.layout_decision import decide_layout
from git_theta_ext.merging.planning.layouts import with_facts_decided
from git_theta_ext.merging.planning.model_layout import decide_model_layout, merged_index
from git_theta_ext.merging.planning.whole_layouts import with_whole_layouts
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.merging.planning.model_layout import ModelLayout
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class ModelOutcome(Outcome):
    """The result of merging a model; ``manifest`` is that of all parameters.

    Attributes:
        files: Path to manifest of each merged checkpoint.
        texts: Path and content of the merged index, and of the configuration of an adapter.
    """

    files: Mapping[str, Manifest] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)

    def contents(self) -> dict[str, bytes]:
        """Return path and content of each file as git stores it."""
        return {path: manifest.to_bytes() for path, manifest in self.files.items()} | {**self.texts}


def apply_model(  # noqa: PLR0913, PLR0917 - as apply
    versions: ModelVersions,
    plan: Plan,
    store: Store,
    start: Callable[[], Engine] | None = None,
    advance: Callable[[int], None] = no_progress,
    leave: Collection[str] = (),
) -> ModelOutcome:
    """Execute the plan of merging a model, and divide the result between files.

    Args:
        versions: The versions that are merged.
        plan: The plan for the manifests of all parameters.
        store: Holds the tensors and the layouts; computed tensors are written to it and durable on return.
        start: Makes the engine, if a merge method has to be computed; by default one on the CPU.
        advance: Called with the size in bytes of each tensor that is computed without the engine.
        leave: Parameters that are left in conflict as if their values could not be read.

    Raises:
        ThetaError: See ``git_theta_ext.merging.apply.apply``.
    """
    plan = with_whole_layouts(plan, store)
    computed = compute(plan, store, start, advance, leave)
    whole = outcome_of(plan, computed, lambda *_: (plan.layout.skeleton, None, ""))
    names = {*whole.manifest.parameters, *(conflict.name for conflict in whole.manifest.conflicts)}
    layout = decide_model_layout(versions.base, versions.sides, names, plan.layout.side)
    files, notes = {}, [*whole.notes, *([layout.note] if layout.note else [])]
    for path in versions.sides[layout.side].shards:
        local = versions.sides[layout.side].names_in_file(path)
        part = with_facts_decided(_part(versions, plan, layout, path, local), store)
        files[path], note = _file(whole.manifest, part, layout, path, local, store)
        notes += [f"{shown_path(path)}: {note}"] if note else []
    texts, note = _texts(versions, plan, whole.manifest, layout, files)
    notes += [note] if note else []
    return ModelOutcome(
        whole.manifest,
        whole.taken,
        whole.computed,
        tuple(notes),
        whole.resumed,
        whole.failed,
        files=files,
        texts=texts,
    )


def _texts(
    versions: ModelVersions, plan: Plan, merged: Manifest, layout: ModelLayout, files: Mapping[str, Manifest]
) -> tuple[dict[str, bytes], str]:
    """Return path and content of the files that are no checkpoints, and a note on them."""
    target, texts, note = versions.sides[layout.side], {}, ""
    index = merged_index(versions.base, versions.sides, layout, ModelVersion.of(files, target.index_path, target.index))
    if index is not None and target.index_path is not None:
        texts[target.index_path] = index.to_bytes()
    if versions.configured:
        path = next(version.config_path for version in versions.every if version.config_path is not None)
        before = None if versions.base is None else versions.base.config
        config = merge_configs(before, [side.config for side in versions.sides])
        if config is None:
            content = versions.config
        elif plan.adapter is None:
            content = config.fitted()
        else:
            content = plan.adapter.to_bytes({conflict.name for conflict in merged.conflicts})
        note = f"{posixpath.basename(path)}: {config.note}" if config is not None and config.note else ""
        texts |= {} if content is None else {path: content}
    return texts, note


def _file(  # noqa: PLR0913, PLR0917 - what a file is made of
    whole: Manifest, part: Plan, layout: ModelLayout, path: str, names: Mapping[str, str], store: Store
) -> tuple[Manifest, str]:
    """Return the manifest of one merged file, in which parameters may have other names, and a note on its layout."""
    parameters = {names.get(name, name): p for name, p in whole.parameters.items() if layout.places[name] == path}
    conflicts = tuple(
        replace(conflict, name=names.get(conflict.name, conflict.name))
        for conflict in whole.conflicts
        if layout.places[conflict.name] == path
    )
    specs = {name: value.spec for name, value in parameters.items()}
    skeleton, layout_conflict, note = lay_out(part, store, specs, is_structural(conflicts))
    return Manifest(part.ours.format, skeleton, parameters, layout_conflict, conflicts), note


def _part(versions: ModelVersions, plan: Plan, layout: ModelLayout, path: str, names: Mapping[str, str]) -> Plan:
    """Return the plan for the parameters of one file, in which they may have other names.

    Sides that do not have the file count with the version of the side that has it, as if they had not changed it.
    """
    there = versions.sides[layout.side].in_files(path)
    sides = tuple(side.in_files(path) if path in side.shards else there for side in versions.sides)
    base = versions.base.in_files(path) if versions.base is not None and path in versions.base.shards else None
    decisions = tuple(
        replace(decision, name=names.get(decision.name, decision.name))
        for decision in plan.decisions
        if layout.places.get(decision.name) == path
    )
    pairs = tuple(
        replace(
            pair,
            specs={names.get(name, name): spec for name, spec in pair.specs.items() if layout.places.get(name) == path},
        )
        for pair in plan.pairs
    )
    part = replace(plan, base=base, sides=sides, decisions=decisions, pairs=pairs, notes=())
    decided = decide_layout(base, sides, part.specs, frozenset())
    return replace(part, layout=replace(decided, side=plan.layout.side))
