"""Resolve conflicts of a checkpoint in the work tree: write the manifest, and stage what is fully resolved."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import in_chunks_again
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.checkpoint.unfinished import Unfinished
from git_theta_ext.errors import ChangedError, UsageError
from git_theta_ext.git.objects import blob_id, read_manifests
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import check_two_sides, head_of, merge_heads
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.record import Step
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.shards import is_adapter
from git_theta_ext.operations.filter.populate import Wanted, manifest_at, populate_wanted
from git_theta_ext.operations.merge.adapter_resolution import configs_of_sides, take_config
from git_theta_ext.operations.merge.adapter_scales import scales_to_resolve
from git_theta_ext.operations.merge.chosen_conflicts import sides_of
from git_theta_ext.operations.merge.computation import engine
from git_theta_ext.operations.merge.conflicted_files import together
from git_theta_ext.operations.merge.index_resolution import update_index
from git_theta_ext.operations.merge.inputs import adapter_files, config_in_worktree, fetch_values, gather_resolution
from git_theta_ext.operations.merge.record import note_step
from git_theta_ext.operations.merge.renamed import command_for, renamed_to
from git_theta_ext.operations.merge.resolve import resolve_together, skeletons_to_read, values_to_read
from git_theta_ext.operations.staging.stage import Staged, stage_manifests
from git_theta_ext.operations.sync.fetch import ensure_digests, ensure_local
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.files import reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class ConflictedCheckpoint:
    """A checkpoint with merge conflicts.

    Attributes:
        path: Path relative to the top of the work tree.
        manifest: The manifest with the conflicts that remain.
        content: The manifest in the work tree; None if the file there is not a manifest.
        file: The state in which the file was found.
    """

    path: str
    manifest: Manifest
    content: bytes | None
    file: Expected


def find_conflicts(workspace: Workspace, path: str) -> ConflictedCheckpoint:
    """Return a checkpoint that has merge conflicts.

    Raises:
        UsageError: It has no conflicts.
        ManifestError: A version is not a valid manifest.
        MissingError: The layout of a version is neither here nor on a remote.
    """
    file = Expected.at(worktree_of(workspace.repo) / path)
    content = manifest_at(workspace.repo, path)
    manifest = Manifest.parse(content) if content is not None else None
    if manifest is None or not manifest.conflicted:
        # A strategy that runs no driver, or a driver that failed, leaves the conflict in the index only.
        manifest = _conflicts_in_index(workspace, path)
    if manifest is None:
        raise UsageError(f"{workspace.repo.shown(path)} has no conflicts", hint="git theta status")
    return ConflictedCheckpoint(path, manifest, content, replace(file, content=content))


def _conflicts_in_index(workspace: Workspace, path: str) -> Manifest | None:
    """Read the conflicts of a checkpoint from the index, after a merge that did not run our driver.

    Args:
        workspace: The repository and its store.
        path: Path of the checkpoint, relative to the top of the work tree.

    Returns:
        A manifest with a conflict for each parameter that both sides changed; None if the index does not have a version
        of each side.

    Raises:
        UsageError: Only one side has the file.
        MergeError: More than two sides are being merged.
        ManifestError: A version is not a valid manifest.
        MissingError: The layout of a version is neither here nor on a remote.
    """
    repo = workspace.repo
    stages = {entry.stage: entry.oid for entry in repo.entries(None) if entry.path == path and entry.stage}
    manifests = read_manifests(repo, dict.fromkeys(stages.values(), path))
    sides = [manifests.get(stages.get(stage, "")) for stage in (1, 2, 3)]
    if (undecided := _one_sided(repo, path, stages)) is not None:
        raise undecided
    if sides[1] is None or sides[2] is None:
        return None
    check_two_sides(repo, path)
    planned = plan(sides[0], (sides[1], sides[2]), Rules.only("conflict"))
    ensure_digests(workspace, planned.reads())
    return apply(planned, workspace.store).manifest


def one_sided(repo: Repository, paths: Iterable[str]) -> dict[str, UsageError]:
    """Return those of some paths in conflict that only one side has, with errors that say how to resolve them.

    Raises:
        ManifestError: A version is not a valid manifest.
    """
    stages = unmerged(repo)
    found = ((path, _one_sided(repo, path, stages.get(path, ()))) for path in paths)
    return {path: error for path, error in found if error is not None}


def _one_sided(repo: Repository, path: str, stages: Collection[int]) -> UsageError | None:
    if len({2, 3} & set(stages)) != 1:
        return None
    deleter = "by the other side" if 2 in stages else "by ours"  # noqa: PLR2004 - stage 2 is ours
    if (new := renamed_to(repo, path)) is not None:
        return UsageError(
            f"{repo.shown(path)} was renamed to {repo.shown(new)} {deleter}, and both changed it",
            hint=command_for(repo, path, new),
        )
    return UsageError(
        f"{repo.shown(path)} was deleted or renamed {deleter}: decide whether to keep the file",
        hint=f"git add {repo.argument(path)} keeps it, git rm {repo.argument(path)} deletes it",
    )


def resolve_conflicts(
    workspace: Workspace,
    checkpoints: Sequence[ConflictedCheckpoint],
    choice: Choice,
    patterns: Sequence[str] = (),
    *,
    index: str | None = None,
) -> list[ConflictedCheckpoint]:
    """Resolve conflicts by a side or a method, and write the manifests with those that remain to the work tree.

    Args:
        workspace: The repository and its store.
        checkpoints: All files of a model with conflicts.
        choice: The side or method.
        patterns: Names or globs of parameters; empty for all.
        index: Path of the index that lists the parameters of the model; None if there is none.

    Raises:
        ThetaError: See ``git_theta_ext.operations.merge.resolve.resolve_together``; or a manifest cannot be written.
    """
    repo, store = workspace.repo, workspace.store
    manifests, path = [checkpoint.manifest for checkpoint in checkpoints], checkpoints[0].path
    whole = together(manifests)
    ensure_digests(workspace, {digest for manifest in manifests for digest in skeletons_to_read(manifest)})
    fetch_values(workspace, path, values_to_read(whole, choice.method))
    heads = [head for head in (head_of(repo), *merge_heads(repo)) if head is not None]
    config = config_in_worktree(repo, path)
    inputs = gather_resolution(workspace, whole, path, heads, config)
    scaled = scales_to_resolve(store, inputs.adapters, inputs.config)
    resolved = resolve_together(manifests, store, choice, patterns, lambda: engine(store, inputs.device), scaled=scaled)
    resolved = [
        in_chunks_again(manifest, store, checkpoint.path)
        for checkpoint, manifest in zip(checkpoints, resolved, strict=True)
    ]
    written = [
        ConflictedCheckpoint(
            checkpoint.path, manifest, manifest.to_bytes(), _write(repo, checkpoint, manifest.to_bytes())
        )
        for checkpoint, manifest in zip(checkpoints, resolved, strict=True)
    ]
    base, *sides = sides_of(whole)
    if is_adapter(path) and choice.method in (base, *sides):
        merged = together(resolved)
        names = {conflict.name for conflict in whole.conflicts} - {conflict.name for conflict in merged.conflicts}
        configs = configs_of_sides(repo, path, inputs.adapters or adapter_files(repo, path, heads), tuple(sides))
        take_config(workspace, path, config, configs, merged, names, choice.method)
    texts = {} if index is None else update_index(repo, index, *map(_manifests, (checkpoints, written)))
    before = {checkpoint.path: checkpoint.content for checkpoint in checkpoints if checkpoint.content is not None}
    if len(before) == len(checkpoints):
        step = Step(Rules(choice), tuple(patterns), () if patterns else _unread(store, together(resolved)))
        after = {checkpoint.path: checkpoint.content or b"" for checkpoint in written}
        note_step(repo, step, _ids(repo, before), _ids(repo, after) | texts)
    return written


def _manifests(checkpoints: Sequence[ConflictedCheckpoint]) -> dict[str, Manifest]:
    return {checkpoint.path: checkpoint.manifest for checkpoint in checkpoints}


def _ids(repo: Repository, contents: Mapping[str, bytes]) -> dict[str, str]:
    return {path: blob_id(content, repo.object_format) for path, content in contents.items()}


def _unread(store: Store, resolved: Manifest) -> tuple[str, ...]:
    """Return the parameters that are still in conflict, if values of some of them are missing or damaged.

    All of them: a value that cannot be read can keep a threshold from being found for other parameters.
    """
    values = {value.digest for conflict in resolved.conflicts for value in conflict.candidates.values() if value}
    return tuple(conflict.name for conflict in resolved.conflicts) if store.touch_and_find_missing(values) else ()


def stage_resolved(workspace: Workspace, checkpoint: ConflictedCheckpoint) -> None:
    """Stage a fully resolved checkpoint, and write its file.

    Raises:
        ThetaError: The index or the file cannot be written, or values are missing.
    """
    content = checkpoint.manifest.to_bytes()
    if content != checkpoint.content:
        _write(workspace.repo, checkpoint, content)
    full = worktree_of(workspace.repo) / checkpoint.path
    stage_manifests(workspace.repo, [Staged(checkpoint.path, full.lstat(), checkpoint.manifest)])
    for failure in populate_wanted(workspace, {checkpoint.path: Wanted(content)}, partial(ensure_local, workspace)):
        raise failure


def _write(repo: Repository, checkpoint: ConflictedCheckpoint, content: bytes) -> Expected:
    full = worktree_of(repo) / checkpoint.path
    with reporting_os_errors(full), Unfinished(full, repo.theta_dir) as unfinished:
        with open(unfinished.descriptor, "wb", closefd=False) as file:
            file.write(content)
        if not unfinished.put(checkpoint.file):
            shown = repo.shown(checkpoint.path)
            raise ChangedError(
                f"{shown} was changed by another program in the meantime, and was left as it is",
                hint=f"git theta resolve {repo.argument(checkpoint.path)}",
            )
        return Expected(os.fstat(unfinished.descriptor), content)
