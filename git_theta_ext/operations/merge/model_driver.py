"""Answer git's merge driver for a file of a model of several files."""

from __future__ import annotations

import posixpath
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from git_theta_ext.git.objects import blob_id
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import LayoutConflict
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.operations.merge.kept_models import keep, kept, rules_key
from git_theta_ext.operations.merge.merged_trees import trees_in_progress, trees_of_merge, trees_of_replay
from git_theta_ext.operations.merge.model_directories import directories_of
from git_theta_ext.operations.merge.record import recorded_rules
from git_theta_ext.operations.merge.result import remember, report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.models import ModelOutcome
    from git_theta_ext.operations.merge.merged_trees import MergedTrees
    from git_theta_ext.operations.merge.model_directories import MergedDirectories, MergedModel
    from git_theta_ext.operations.workspace import Workspace

_MOVED = Reason.of(ConflictCode.MODEL, "the model's files were divided otherwise, and git merges them one by one")


@dataclass(frozen=True)
class Answer:
    """What git gets as the merged file.

    Attributes:
        content: The file.
        conflicted: Whether git is to leave the file in conflict.
    """

    content: bytes
    conflicted: bool


def answer(  # noqa: PLR0913, PLR0917 - what git gives the driver
    workspace: Workspace,
    path: str,
    contents: Sequence[bytes],
    heads: Sequence[str],
    operation: Operation,
    meanwhile: Callable[[Callable[[], Manifest]], AbstractContextManager[None]],
) -> Answer | None:
    """Return the merged version of a file; None if it is a model by itself, or the versions of others are unknown.

    Args:
        workspace: The repository and its store.
        path: Path of the file.
        contents: The common ancestor's, our and their version as git stores them; empty if there is none.
        heads: The current commit, and those that are merged into it.
        operation: The operation that git is performing.
        meanwhile: Entered while values are computed, with a function that returns the file if they are not.

    Raises:
        ThetaError: The model cannot be merged.
    """
    repo = workspace.repo
    oids = [blob_id(content, repo.object_format) if content else None for content in contents]
    directories = directories_of(repo, _trees(repo, heads, operation), path, oids)
    if directories is None:
        return None
    rules = rules_key(rule_sources(repo), operation)
    merged = kept(repo, directories, rules)
    if merged is None:
        if not directories.sharded():
            return None
        merged = _merged(workspace, directories, heads, operation, path, meanwhile)
        if merged is None:
            return None
        keep(repo, directories, rules, merged)
        if not merged.by_git:
            workspace.reporter.warning(
                f"{merged.name}: the model is merged, but git merges its files one by one and cannot write them all",
                f"git theta resolve {repo.argument(posixpath.dirname(path))}",
            )
    return _answer(merged, path, contents)


def _trees(repo: Repository, heads: Sequence[str], operation: Operation) -> Iterator[MergedTrees]:
    if operation.kind != "merge":
        yield from trees_of_replay(repo, operation.name)
    yield from trees_of_merge(repo, heads) if len(heads) > 1 else trees_in_progress(repo)


def _merged(  # noqa: PLR0913, PLR0917 - as answer
    workspace: Workspace,
    directories: MergedDirectories,
    heads: Sequence[str],
    operation: Operation,
    path: str,
    meanwhile: Callable[[Callable[[], Manifest]], AbstractContextManager[None]],
) -> MergedModel | None:
    # Importing this takes as long as all else that a call does whose answer is known.
    from git_theta_ext.operations.merge.model_merge import merge_model, merged_files, plan_model, record_of

    versions = directories.versions()
    if versions is None:
        return None
    repo = workspace.repo
    recorded = None
    if operation.remade is not None:
        recorded = recorded_rules(workspace, operation.remade, directories.name)
    names = [side.parameters for side in versions.sides]
    rules = merge_rules(rule_sources(repo), *names, operation=operation, recorded=recorded)

    def of_file(outcome: Callable[[], ModelOutcome]) -> AbstractContextManager[None]:
        ours = versions.sides[0].shards.get(path)
        return nullcontext() if ours is None else meanwhile(lambda: outcome().files.get(path, ours))

    plan = plan_model(workspace, versions, rules)
    outcome = merge_model(workspace, versions, plan, heads, label="merging", meanwhile=of_file)
    report(workspace, directories.name, outcome, operation, argument=posixpath.dirname(path))
    merged = merged_files(repo, directories, outcome)
    record = record_of(repo, directories, heads, rules, plan, outcome)
    results = {file: blob_id(content, repo.object_format) for file, content in merged.contents.items()}
    remember(workspace, heads, {directories.name: (record, results)})
    return merged


def _answer(merged: MergedModel, path: str, contents: Sequence[bytes]) -> Answer:
    content = merged.contents.get(path)
    if merged.by_git:
        assert content is not None
        return Answer(content, is_manifest(content) and Manifest.parse(content).conflicted)
    if not is_manifest(contents[1]):
        return Answer(contents[1] if content is None else content, conflicted=True)
    base, ours, theirs = (Manifest.parse(data) if data else None for data in contents)
    assert ours is not None
    assert theirs is not None
    manifest = ours if content is None else Manifest.parse(content)
    layouts = LayoutConflict(_MOVED, None if base is None else base.skeleton, (ours.skeleton, theirs.skeleton))
    return Answer(replace(manifest, layout_conflict=layouts).to_bytes(), conflicted=True)
