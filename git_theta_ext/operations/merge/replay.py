"""Repeat the merges of checkpoints that a merge commit records, and compare the results bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import in_chunks_again
from git_theta_ext.errors import MergeError
from git_theta_ext.git.objects import manifest_blobs
from git_theta_ext.git.revisions import commit_id, head_of, merge_heads, parents_of
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.whole_layouts import with_whole_layouts
from git_theta_ext.merging.reporting.report import rows, several
from git_theta_ext.operations.merge.adapter_scales import scales_to_resolve
from git_theta_ext.operations.merge.computation import bytes_to_compute, engine
from git_theta_ext.operations.merge.external_data import as_tensors
from git_theta_ext.operations.merge.inputs import config_in_commit, gather_inputs, gather_resolution
from git_theta_ext.operations.merge.model_replay import recorded_model, replay_model
from git_theta_ext.operations.merge.planning import plan_checkpoint
from git_theta_ext.operations.merge.record import records_of
from git_theta_ext.operations.merge.recorded_merge import RecordedMerge, Replayed
from git_theta_ext.operations.merge.recorded_versions import check_record, inexact_methods, recorded_objects
from git_theta_ext.operations.merge.resolve import resolve, skeletons_to_read, values_to_read
from git_theta_ext.operations.merge.versions import read_version
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.record import Record
    from git_theta_ext.merging.reporting.report import Row
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace


def recorded_merges(workspace: Workspace, commit: str) -> list[RecordedMerge]:
    """Return the merges of checkpoints that a commit records.

    Raises:
        RepositoryError: There is no such commit.
        MergeError: It records none, a version that was merged is not here, or another version of a method is installed.
        PluginError: A method is not installed.
    """
    repo = workspace.repo
    oid = commit_id(repo, commit)
    records = records_of(repo, oid)
    if not records:
        raise _without_record(repo, commit, oid)
    committed = repo.manifests(oid)
    parents = parents_of(repo, oid)
    merges = []
    for record in records:
        if (model := recorded_model(workspace, commit, record, parents)) is not None:
            merges.append(model)
            continue
        if record.path not in committed:
            raise MergeError(f"{commit} records a merge of {shown_path(record.path)} but has no such checkpoint")
        check_record(repo, commit, record, parents)
        manifests = _manifests(repo, record)
        base = None if record.base is None else _version(manifests, record.base, record.path, allow_conflicts=True)
        sides = [_version(manifests, side, record.path) for side in record.sides]
        tensors = as_tensors(workspace, record.path, base, sides, record.commits)
        base, sides = tensors or (base, sides)
        plan = plan_checkpoint(workspace, base, sides, record.rules, record.unread_types, mixed=tensors is not None)
        ensure_digests(workspace, plan.reads_layouts())
        plan = with_whole_layouts(plan, workspace.store)
        merges.append(RecordedMerge(oid, record, plan, committed[record.path][1]))
    return merges


def _without_record(repo: Repository, commit: str, oid: str) -> MergeError:
    if oid == head_of(repo) and merge_heads(repo):
        if unmerged(repo):
            return MergeError("the merge has conflicts, and no commit records it yet", hint="git theta status")
        return MergeError("the merge is not committed, so nothing records it yet", hint="git commit --no-edit")
    merges = len(parents_of(repo, oid)) > 1
    why = "no method merged a parameter, or no hook recorded it" if merges else "it is not a merge"
    return MergeError(
        f"{commit} does not record how models were merged: {why}",
        hint="git log --grep='^Theta-Merge:' lists merges that do; git theta doctor checks the hook",
    )


def replay(workspace: Workspace, merge: RecordedMerge) -> Replayed:
    """Repeat the merge of a checkpoint, and compare the result with the committed version.

    Args:
        workspace: The repository and its store.
        merge: The merge to repeat.

    Raises:
        ThetaError: See ``git_theta_ext.merging.apply.apply``; or a recorded resolution no longer works.
    """
    if merge.model is not None:
        return replay_model(workspace, merge, merge.model)
    record, store = merge.record, workspace.store
    ensure_digests(workspace, merge.plan.without(record.unread).reads())
    inputs = gather_inputs(workspace, merge.plan, [record.path], record.commits)
    with workspace.reporter.progress(f"merging {shown_path(record.path)}", bytes_to_compute(inputs.plan)) as advance:
        outcome = apply(
            inputs.plan,
            store,
            lambda: engine(store, inputs.device, statistics=inputs.statistics, advance=advance),
            leave=record.unread,
        )
    manifest = outcome.manifest
    config = config_in_commit(workspace.repo, record.path, merge.commit)
    resolution = gather_resolution(workspace, manifest, record.path, record.commits, config)
    scaled = scales_to_resolve(store, resolution.adapters, resolution.config)
    for step in record.steps:
        method = step.rules.defaults.method
        ensure_digests(workspace, {*skeletons_to_read(manifest), *values_to_read(manifest, method, step.unread)})
        manifest = resolve(
            manifest,
            store,
            step.rules.defaults,
            step.patterns,
            lambda: engine(store, inputs.device),
            scaled=scaled,
            leave=step.unread,
        )
    manifest = in_chunks_again(manifest, store, record.path)
    computed = sum(outcome.computed.values()) + len(outcome.manifest.conflicts) - len(manifest.conflicts)
    return Replayed(record.path, computed, _differing(manifest, merge.committed), inexact_methods(record))


def measure_merge(workspace: Workspace, merge: RecordedMerge, advance: Callable[[int], None]) -> list[Row]:
    """Measure the effect of a merge on the parameters that several sides changed.

    Args:
        workspace: The repository and its store.
        merge: The merge to measure.
        advance: Called with the size in bytes of each parameter that is done.

    Raises:
        MissingError: Values are neither here nor on a remote.
        CorruptError: Values in the store are damaged.
    """
    plan = merge.plan
    taken = [d for d in plan.decisions if d.action == "take" and d.source is not None and not merge.record.steps]
    if other := [d.name for d in taken if merge.committed.parameters.get(d.name) != d.value]:
        raise MergeError(
            f"{shown_path(merge.record.path)}: {other[0]!r} in {merge.commit[:12]} does not match the commit's record",
            hint=f"git theta merge --replay {merge.commit[:12]}",
        )
    changed = [decision for decision in plan.decisions if several(decision)]
    values = [value for d in changed for value in (d.base, *d.sides, merge.committed.parameters.get(d.name))]
    digests = {value.digest for value in values if value is not None}
    ensure_digests(workspace, digests | set(plan.reads()))
    worker = engine(workspace.store, workspace.settings.merge_device)
    measured = []
    for row in rows(workspace.store, worker.device, plan, merge.committed, worker.thresholds(plan)):
        measured.append(row)
        advance(row.spec.nbytes)
    return measured


def _differing(computed: Manifest, other: Manifest) -> tuple[str | None, ...]:
    names = sorted({*computed.parameters, *other.parameters})
    differing = [name for name in names if computed.parameters.get(name) != other.parameters.get(name)]
    return (
        *differing,
        *([None] if computed.skeleton != other.skeleton or computed.conflicted != other.conflicted else []),
    )


def _manifests(repo: Repository, record: Record) -> Mapping[str, bytes]:
    """Return the manifests that were merged; a common ancestor that git itself merged is merged again."""
    return dict(manifest_blobs(repo, recorded_objects(repo, record)))


def _version(manifests: Mapping[str, bytes], oid: str, path: str, *, allow_conflicts: bool = False) -> Manifest:
    if oid not in manifests:
        raise MergeError(
            f"{shown_path(path)}: version {oid[:12]}, which was merged, is not in this repository",
            hint="git fetch --unshallow",
        )
    return read_version(manifests[oid], f"{shown_path(path)}: version {oid[:12]}", allow_conflicts=allow_conflicts)
