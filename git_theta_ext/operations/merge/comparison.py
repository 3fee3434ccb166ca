"""Compare merges on trial: how far each goes from the common ancestor, in whose direction, and what it costs."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.reporting.measures import MergedVersions, measure
from git_theta_ext.model.units import QUANTISED
from git_theta_ext.operations.merge.trial import merge_trials
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.merging.reporting.measures import Measures
    from git_theta_ext.operations.merge.trial import Trial, TriedModel
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class ComparedTrial:
    """A merge on trial, and what there is to compare.

    Attributes:
        trial: The merge.
        distances: Norm of the change by each side, and by the merge, over the norm of the common ancestor, over all
            parameters that a side changed and whose versions can be subtracted; empty if there are none.
        cosines: Cosine between the change by the merge and the change by each side; None if one of them is zero.
        stored: Bytes that the merged tensors take in the store, before ``git theta gc``.
    """

    trial: Trial
    distances: tuple[float, ...]
    cosines: tuple[float | None, ...]
    stored: int


def compared_trials(
    workspace: Workspace, revisions: Sequence[str], tries: Sequence[Sequence[str]], places: Sequence[str] = ()
) -> Iterator[ComparedTrial]:
    """Merge branches into the current one on trial, in several ways.

    All mistakes in the words are reported before the first merge is made.

    Args:
        workspace: The repository and its store.
        revisions: The branches.
        tries: Method and options of each trial, as ``git merge -s theta -X`` takes them.
        places: As for ``merge_trials``.

    Raises:
        MergeError: The words or the rules are not valid.
        ThetaError: A merge is not possible; the message says why.
    """
    with merge_trials(workspace, revisions, places) as trials:
        plans = [trials.plan(words) for words in tries]
        for plan in plans:
            yield _compared(trials.make(plan))


def _compared(trial: Trial) -> ComparedTrial:
    measured = [measures for model in trial.models.values() for measures in _measured(trial.workspace, model)]
    total = reduce(add, measured) if measured else None
    sides = len(total.products) - 1 if total is not None else 0
    return ComparedTrial(
        trial,
        () if total is None else total.distances,
        () if total is None else tuple(total.cosine(number, sides) for number in range(sides)),
        _stored(trial),
    )


def _measured(workspace: Workspace, model: TriedModel) -> Iterator[Measures]:
    """Yield the measures of each parameter that a side changed; the merged value counts as one more side."""
    apart = {name for unit in model.plan.units if unit.kind == QUANTISED for name in unit.members}
    conflicts = {conflict.name for conflict in model.outcome.manifest.conflicts}
    versions = {}
    for decision in model.plan.decisions:
        merged = model.outcome.manifest.parameters.get(decision.name)
        sides = [*decision.sides, merged]
        present = tuple(side for side in sides if side is not None)
        if decision.unchanged or decision.base is None or len(present) < len(sides):
            continue
        found = MergedVersions(decision.base, present)
        if found.comparable and decision.name not in apart | conflicts:
            versions[decision.name] = found
    ensure_digests(workspace, {value.digest for found in versions.values() for value in found.members})
    yield from (measures for _, measures in measure(workspace.store, Cpu(), versions))


def _stored(trial: Trial) -> int:
    """Return the bytes of the merged tensors that none of the sides has."""
    new = set()
    for model in trial.models.values():
        manifests = [*model.plan.sides, *([] if model.plan.base is None else [model.plan.base])]
        known = {value.digest for manifest in manifests for value in manifest.parameters.values()}
        new |= {value.digest for value in model.outcome.manifest.parameters.values()} - known
    stored = set(trial.workspace.store.stored_as(new).values())
    blobs = trial.workspace.store.blobs(stored)
    return sum(blob.entry.stored for digest, blob in blobs.items() if digest in stored)
