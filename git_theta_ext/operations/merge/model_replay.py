"""Repeat the merge of a model of several files that a merge commit records."""

from __future__ import annotations

import posixpath
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, MergeError
from git_theta_ext.git.objects import object_infos
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.merging.model_versions import ModelVersions
from git_theta_ext.merging.models import apply_model
from git_theta_ext.merging.planning.whole_layouts import with_whole_layouts
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.operations.merge.adapter_scales import files_of, scales_to_resolve
from git_theta_ext.operations.merge.computation import bytes_to_compute, engine
from git_theta_ext.operations.merge.conflicted_files import together
from git_theta_ext.operations.merge.inputs import config_in_commit, gather_inputs, gather_resolution
from git_theta_ext.operations.merge.planning import plan_checkpoint
from git_theta_ext.operations.merge.recorded_merge import RecordedMerge, RecordedModel, Replayed
from git_theta_ext.operations.merge.recorded_versions import check_record, inexact_methods, recorded_objects
from git_theta_ext.operations.merge.resharded import in_our_pieces
from git_theta_ext.operations.merge.resolve import resolve_together, skeletons_to_read, values_to_read
from git_theta_ext.operations.models import Directory
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.record import Record
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace


def recorded_model(workspace: Workspace, commit: str, record: Record, parents: Iterable[str]) -> RecordedMerge | None:
    """Return the merge of a model that a commit records; None if the record is that of a checkpoint.

    Args:
        workspace: The repository and its store.
        commit: The commit, as the user names it.
        record: The record.
        parents: The commit's parents.

    Raises:
        MergeError: The record does not belong to the commit, or a version that was merged is not here.
        ManifestError: A version is not valid.
    """
    repo, ours = workspace.repo, record.sides[0]
    kinds = object_infos(repo, [ours])
    if ours not in kinds or kinds[ours].kind != "tree":
        return None
    check_record(repo, commit, record, parents)
    objects = recorded_objects(repo, record)
    base = None if record.base is None else _version(repo, record, record.base, objects)
    sides = tuple(_required(record, side, _version(repo, record, side, objects)) for side in record.sides)
    folder = posixpath.dirname(record.path)
    committed = _required(record, commit, Directory.of(repo, commit, folder).version(record.path))
    versions = in_our_pieces(workspace, ModelVersions(record.path, base, sides))
    before, after = versions.manifests()
    plan = plan_checkpoint(workspace, before, after, record.rules, record.unread_types, mixed=True)
    ensure_digests(workspace, plan.reads_layouts())
    plan = with_whole_layouts(plan, workspace.store)
    recorded = RecordedModel(versions, committed)
    return RecordedMerge(commit_id(repo, commit), record, plan, committed.as_one(), recorded)


def replay_model(workspace: Workspace, merge: RecordedMerge, model: RecordedModel) -> Replayed:
    """Repeat the merge of a model, and compare the result with the committed version.

    Args:
        workspace: The repository and its store.
        merge: The merge to repeat.
        model: Its files.

    Raises:
        ThetaError: See ``git_theta_ext.merging.apply.apply``.
    """
    record, store = merge.record, workspace.store
    ensure_digests(workspace, {*merge.plan.without(record.unread).reads(), *model.versions.skeletons()})
    paths = [record.path, *sorted(model.versions.paths())]
    inputs = gather_inputs(workspace, merge.plan, paths, record.commits, files_of(model.versions))
    with workspace.reporter.progress(f"merging {shown_path(record.path)}", bytes_to_compute(inputs.plan)) as advance:
        outcome = apply_model(
            model.versions,
            inputs.plan,
            store,
            partial(engine, store, inputs.device, statistics=inputs.statistics, advance=advance),
            leave=record.unread,
        )
    files = _resolved(workspace, merge, outcome.files)
    computed = ModelVersion.of(files, model.committed.index_path, model.committed.index).parameters
    names = {*computed, *merge.committed.parameters}
    values = (computed, merge.committed.parameters)
    differing = sorted(name for name in names if values[0].get(name) != values[1].get(name))
    alike = {path: file.to_bytes() for path, file in files.items()} == {
        path: model.committed.in_files(path).to_bytes() for path in model.committed.shards
    }
    layout = [] if alike or differing else [None]
    count = sum(outcome.computed.values()) + len(outcome.manifest.conflicts)
    count -= sum(len(file.conflicts) for file in files.values())
    return Replayed(record.path, count, (*differing, *layout), inexact_methods(record))


def _resolved(workspace: Workspace, merge: RecordedMerge, merged: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """Repeat the recorded resolutions of conflicts."""
    record, store, files = merge.record, workspace.store, dict(merged)
    config = config_in_commit(workspace.repo, record.path, merge.commit) if record.steps else None
    for step in record.steps:
        conflicted = {path: file for path, file in files.items() if file.conflicted}
        whole, choice = together(list(conflicted.values())), step.rules.defaults
        inputs = gather_resolution(workspace, whole, record.path, record.commits, config)
        skeletons = {digest for file in conflicted.values() for digest in skeletons_to_read(file)}
        ensure_digests(workspace, {*skeletons, *values_to_read(whole, choice.method, step.unread)})
        resolved = resolve_together(
            list(conflicted.values()),
            store,
            choice,
            step.patterns,
            partial(engine, store, inputs.device),
            scaled=scales_to_resolve(store, inputs.adapters, inputs.config),
            leave=step.unread,
        )
        files |= dict(zip(conflicted, resolved, strict=True))
    return files


def _version(repo: Repository, record: Record, tree: str, objects: Iterable[str]) -> ModelVersion | None:
    if tree not in objects:
        raise MergeError(
            f"{shown_path(record.path)}: version {tree[:12]}, which was merged, is not in this repository",
            hint="git fetch --unshallow",
        )
    try:
        return Directory.of_tree(repo, tree, posixpath.dirname(record.path)).version(record.path)
    except FormatError as error:
        raise MergeError(f"{shown_path(record.path)}: version {tree[:12]}: {error.message}") from error


def _required(record: Record, name: str, version: ModelVersion | None) -> ModelVersion:
    if version is None:
        raise MergeError(f"{name[:12]} has no model {shown_path(record.path)}, of which a merge is recorded")
    return version
