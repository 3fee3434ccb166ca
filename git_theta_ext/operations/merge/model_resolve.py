"""Finish the merge of a model of several files that git's merge of one file after another could not end with."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ChangedError
from git_theta_ext.git.entries import TreeEntry, update_index
from git_theta_ext.git.objects import blob_id, write_blob
from git_theta_ext.git.operation import current_operation, stopped_operation
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.model.conflict_reasons import ConflictCode
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.model.shards import is_text
from git_theta_ext.operations.filter.populate import manifest_at
from git_theta_ext.operations.merge.kept_models import kept
from git_theta_ext.operations.merge.merged_trees import trees_in_progress
from git_theta_ext.operations.merge.model_directories import MergedModel, directories_of
from git_theta_ext.operations.merge.result import remember, report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.merged_trees import MergedTrees
    from git_theta_ext.operations.merge.model_directories import MergedDirectories
    from git_theta_ext.operations.workspace import Workspace

_SIDES = (1, 2, 3)


@dataclass(frozen=True)
class FinishedModel:
    """A model whose files are written and staged.

    Attributes:
        name: The path that the model has, or would have, as one file.
        resolved: Paths of the files without conflicts.
        conflicted: Paths of the checkpoints with conflicts.
        removed: Paths of the files that the merged model does not have.
    """

    name: str
    resolved: tuple[str, ...]
    conflicted: tuple[str, ...]
    removed: tuple[str, ...]


def finish_models(workspace: Workspace, paths: Iterable[str], merged: MergedTrees | None = None) -> list[FinishedModel]:
    """Write and stage all files of the models that some files in conflict belong to.

    Files of a model that git merged with all others are left as they are.

    Args:
        workspace: The repository and its store.
        paths: Paths of files; those that are not in conflict are left as they are.
        merged: What is merged; None if this follows from the state of the operation that a conflict stopped.

    Raises:
        ChangedError: A file of the model was changed since the merge.
        ThetaError: The model cannot be merged.
    """
    repo = workspace.repo
    stages = unmerged(repo)
    if not stages:
        return []
    candidates = list(trees_in_progress(repo)) if merged is None else [merged]
    operation = stopped_operation(repo) if merged is None else current_operation(repo)
    finished: list[FinishedModel] = []
    done: set[str] = set()
    for path in paths:
        if path in stages and path not in done and _is_unfinished(repo, path, stages[path]):
            model = _finish(workspace, operation, candidates, path, stages)
            if model is not None:
                finished.append(model)
                done |= {*model.resolved, *model.conflicted, *model.removed}
    return finished


def finish_divided(workspace: Workspace, merged: MergedTrees) -> list[FinishedModel]:
    """Write and stage the models with units of which git took parts from both sides, so that these are in conflict.

    Args:
        workspace: The repository and its store.
        merged: What is merged.

    Raises:
        ChangedError: A file of the model was changed since the merge.
        ThetaError: The model cannot be merged.
    """
    from git_theta_ext.operations.merge.divided_units import divided_models

    repo, finished = workspace.repo, []
    for directories, _ in divided_models(repo, merged):
        model = _merged(workspace, current_operation(repo), directories)
        if model is not None:
            _check_unchanged(repo, [*model.contents, *model.removed], {})
            finished.append(_write(repo, directories, model))
    return finished


def _is_unfinished(repo: Repository, path: str, stages: Mapping[int, str]) -> bool:
    """Return whether a file in conflict may belong to a model that git could not merge file by file."""
    if is_text(path) or not {2, 3} <= stages.keys():
        return True
    content = manifest_at(repo, path)
    layout = None if content is None else Manifest.parse(content).layout_conflict
    return layout is not None and layout.reason.code is ConflictCode.MODEL


def _finish(
    workspace: Workspace,
    operation: Operation,
    candidates: Iterable[MergedTrees],
    path: str,
    stages: Mapping[str, Mapping[int, str]],
) -> FinishedModel | None:
    repo = workspace.repo
    oids = [stages[path].get(stage) for stage in _SIDES]
    directories = directories_of(repo, candidates, path, oids)
    if directories is None or not directories.sharded():
        return None
    merged = kept(repo, directories) or _merged(workspace, operation, directories)
    if merged is None:
        return None
    _check_unchanged(repo, [*merged.contents, *merged.removed], stages)
    return _write(repo, directories, merged)


def _merged(workspace: Workspace, operation: Operation, directories: MergedDirectories) -> MergedModel | None:
    """Merge a model for which git called no driver."""
    from git_theta_ext.operations.merge.model_merge import merge_model, merged_files, plan_model, record_of
    from git_theta_ext.operations.merge.resharded import in_our_pieces

    repo, versions = workspace.repo, directories.versions()
    if versions is None:
        return None
    versions = in_our_pieces(workspace, versions)
    rules = merge_rules(rule_sources(repo), *(side.parameters for side in versions.sides), operation=operation)
    commits = directories.trees.sides
    plan = plan_model(workspace, versions, rules)
    outcome = merge_model(workspace, versions, plan, commits, label=f"merging {directories.name}")
    report(workspace, directories.name, outcome, operation, argument=directories.folder)
    merged = merged_files(repo, directories, outcome)
    results = {file: blob_id(content, repo.object_format) for file, content in merged.contents.items()}
    remember(workspace, commits, {directories.name: (record_of(directories, commits, rules, plan, outcome), results)})
    return merged


def _check_unchanged(repo: Repository, paths: Iterable[str], stages: Mapping[str, Mapping[int, str]]) -> None:
    """Check that files which git merged without a conflict have not been changed since."""
    merged = [f":(top,literal){path}" for path in paths if path not in stages]
    changed = repo.run("diff-files", "--name-only", "-z", "--", *merged) if merged else b""
    if changed:
        path = os.fsdecode(changed.partition(b"\0")[0])
        raise ChangedError(
            f"{shown_path(path)} was changed since the merge, which would overwrite it",
            hint=f"git checkout -- {repo.argument(path)} discards the change",
        )


def _write(repo: Repository, directories: MergedDirectories, merged: MergedModel) -> FinishedModel:
    """Stage the files of a merged model, and write them to the work tree."""
    no_object = "0" * 2 * repo.oid_bytes
    entries = [TreeEntry(path, no_object, "0") for path in (*merged.contents, *merged.removed)]
    resolved, conflicted = [], []
    for path, content in merged.contents.items():
        oid = write_blob(repo, content)
        if is_manifest(content) and Manifest.parse(content).conflicted:
            conflicted.append(path)
            versions = [d.files.get(path, oid) for d in (directories.base, *directories.sides) if d is not None]
            numbers = _SIDES[-len(versions) :]
            entries += [
                TreeEntry(path, version, directories.mode(path), number)
                for number, version in zip(numbers, versions, strict=True)
            ]
        else:
            resolved.append(path)
            entries.append(TreeEntry(path, oid, directories.mode(path)))
    update_index(repo.run, entries)
    top = worktree_of(repo)
    for path in conflicted:
        with reporting_os_errors(top / path):
            replace_content(top / path, merged.contents[path])
    for path in merged.removed:
        with reporting_os_errors(top / path), suppress(FileNotFoundError):
            (top / path).unlink()
    names = b"".join(os.fsencode(path) + b"\0" for path in resolved)
    repo.run("checkout-index", "--force", "--index", "-z", "--stdin", input=names)
    return FinishedModel(merged.name, tuple(resolved), tuple(conflicted), merged.removed)
