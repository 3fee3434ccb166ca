"""Inspect conflicts before they are resolved: how much the sides changed, and what each method would compute."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.reporting.measures import MergedVersions, measure
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.operations.merge.conflict_values import resolved_values
from git_theta_ext.records import dataclass
from git_theta_ext.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.reporting.measures import Measures
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.store.store import Store

SAMPLE_BYTES = 1 << 27
"""The most bytes of versions that a preview holds in memory."""


@dataclass(frozen=True)
class Preview:
    """The values that a method would compute for some conflicts.

    Attributes:
        choice: The method.
        measures: Measures of the sides, with the method's result as an additional last side; None if the method failed.
        reason: Why the method failed.
    """

    choice: Choice
    measures: Measures | None
    reason: str = ""


def movers(conflict: Conflict) -> tuple[str, ...]:
    """Return the names of the sides that changed a parameter."""
    names = side_names(len(conflict.sides))
    return tuple(name for name, value in zip(names, conflict.sides, strict=True) if value != conflict.base)


def moved(store: Store, device: Device, conflicts: Sequence[Conflict]) -> Measures | None:
    """Measure how much the sides of conflicts changed; the same sides must have changed each of them.

    Returns:
        The measures; None if no versions can be compared.

    Raises:
        MissingError: A value is not in the store.
        CorruptError: A value is damaged.
    """
    comparable = {c.name: versions for c in conflicts if (versions := _versions(c)) is not None}
    return _sum([measures for _, measures in measure(store, device, comparable)])


def preview(
    store: Store, device: Device, manifest: Manifest, conflicts: Sequence[Conflict], choices: Sequence[Choice]
) -> tuple[int, list[Preview]]:
    """Resolve some conflicts in memory, by one method after another.

    Args:
        store: The store with the values.
        device: The device to compute on.
        manifest: The manifest that has the conflicts.
        conflicts: The conflicts; only the largest ones that fit in memory are computed.
        choices: The methods.

    Returns:
        The number of conflicts that were computed, and the result of each method.

    Raises:
        MissingError: A value is not in the store.
        CorruptError: A value is damaged.
    """
    memory = MemoryStore()
    sample = _sample(conflicts)
    for conflict in sample:
        for value in filter(None, conflict.candidates.values()):
            if memory.touch_and_find_missing({value.digest}):
                memory.put([(value.spec, value.digest, store.read(value.digest, value.spec))])
    return len(sample), [_tried(memory, device, manifest, sample, choice) for choice in choices]


def _tried(
    memory: MemoryStore, device: Device, manifest: Manifest, sample: Sequence[Conflict], choice: Choice
) -> Preview:
    values, failed = resolved_values(
        manifest, sample, choice, memory, lambda: Engine(memory, Devices((device,), Cpu()))
    )
    if failed:
        return Preview(choice, None, next(iter(failed.values())).message)
    comparable = {}
    for conflict in sample:
        versions, merged = _versions(conflict), values[conflict.name]
        if versions is not None and merged is not None:
            comparable[conflict.name] = MergedVersions(versions.base, (*versions.sides, merged))
    measures = _sum([part for _, part in measure(memory, device, comparable)])
    return Preview(choice, measures, "" if measures is not None else "the versions cannot be compared")


def _versions(conflict: Conflict) -> MergedVersions | None:
    values = tuple(value for value in conflict.sides if value != conflict.base)
    if any(value is None for value in values):
        return None
    versions = MergedVersions(conflict.base, tuple(value for value in values if value is not None))
    return versions if versions.comparable else None


def _sample(conflicts: Sequence[Conflict]) -> list[Conflict]:
    sizes = {c.name: sum(v.spec.nbytes for v in c.candidates.values() if v is not None) for c in conflicts}
    sample: list[Conflict] = []
    room = SAMPLE_BYTES
    for conflict in sorted(conflicts, key=lambda conflict: -sizes[conflict.name]):
        if sizes[conflict.name] <= room or not sample:
            sample.append(conflict)
            room -= sizes[conflict.name]
    return sample


def _sum(parts: Sequence[Measures]) -> Measures | None:
    return reduce(add, parts) if parts else None
