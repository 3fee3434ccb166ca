"""Answer git's merge driver for a file of a model of several files."""

from __future__ import annotations

import os
import posixpath
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.objects import blob_id, read_objects
from git_theta_ext.git.process import FINISHED_LATER
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import LayoutConflict
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.operations.merge.driver_call import Answer, KeptAnswers
from git_theta_ext.operations.merge.kept_models import keep, kept, rules_key
from git_theta_ext.operations.merge.merged_trees import candidate_trees
from git_theta_ext.operations.merge.model_directories import directories_of
from git_theta_ext.operations.merge.record import recorded_rules
from git_theta_ext.operations.merge.result import remember, report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.models import ModelOutcome
    from git_theta_ext.operations.merge.driver_call import DriverCall
    from git_theta_ext.operations.merge.model_directories import MergedDirectories, MergedModel
    from git_theta_ext.operations.workspace import Workspace

_MOVED = Reason.of(ConflictCode.MODEL, "the model's files were divided otherwise, and git merges them one by one")


def answer_model(workspace: Workspace, call: DriverCall) -> Answer | None:
    """Return the merged version of a file; None if it is a model by itself, or the versions of others are unknown.

    The answers to the calls for the other files of the model are kept.

    Args:
        workspace: The repository and its store.
        call: What git gives the driver.

    Raises:
        ThetaError: The model cannot be merged.
    """
    repo, path = workspace.repo, call.path
    oids = [blob_id(content, repo.object_format) if content else None for content in call.contents]
    directories = directories_of(repo, candidate_trees(repo, call.heads, call.operation), path, oids)
    if directories is None:
        return None
    rules = rules_key(rule_sources(repo), call.operation)
    merged = kept(repo, directories, rules)
    if merged is None:
        if not directories.sharded():
            return None
        merged = _merged(workspace, directories, call)
        if merged is None:
            return None
        keep(repo, directories, rules, merged)
        if not merged.by_git and FINISHED_LATER not in os.environ:
            workspace.reporter.warning(
                f"{merged.name}: the model is merged, but git merges its files one by one and cannot write them all",
                f"git theta resolve {repo.argument(posixpath.dirname(path))}",
            )
    # Git may call the driver by the old path of a file in a directory that was renamed.
    answered = _answer(merged, directories.path, call.contents)
    _keep_answers(repo, directories, merged, call)
    return answered


def _keep_answers(repo: Repository, directories: MergedDirectories, merged: MergedModel, call: DriverCall) -> None:
    """Keep the answers to the calls of the driver for the other files that all sides have and changed."""
    kept_answers = KeptAnswers.of(repo)
    if kept_answers is None:
        return
    versions = [directories.files(directory) for directory in (directories.base, *directories.sides)]
    called = {path: [files.get(path) for files in versions] for path in versions[1].keys() & versions[2].keys()}
    called = {path: oids for path, oids in called.items() if path != call.path and len(set(oids)) == len(oids)}
    stored = dict(read_objects(repo, {oid for oids in called.values() for oid in oids if oid is not None}))
    for path, oids in called.items():
        with suppress(KeyError, ThetaError):  # a version is missing or broken; the call for this file reports it
            contents = [b"" if oid is None else stored[oid] for oid in oids]
            kept_answers.keep(call.to_merge(path, contents), _answer(merged, path, contents))


def _merged(workspace: Workspace, directories: MergedDirectories, call: DriverCall) -> MergedModel | None:
    # Importing this takes as long as all else that a call does whose answer is known.
    from git_theta_ext.operations.merge.model_merge import merge_model, merged_files, plan_model, record_of
    from git_theta_ext.operations.merge.resharded import in_our_pieces

    versions = directories.versions()
    if versions is None:
        return None
    versions = in_our_pieces(workspace, versions)
    repo = workspace.repo
    recorded = None
    if call.operation.remade is not None:
        recorded = recorded_rules(workspace, call.operation.remade, directories.name)
    names = [side.parameters for side in versions.sides]
    rules = merge_rules(rule_sources(repo), *names, operation=call.operation, recorded=recorded)

    def of_file(outcome: Callable[[], ModelOutcome]) -> AbstractContextManager[None]:
        if directories.path not in versions.sides[0].shards:
            return nullcontext()
        ours = versions.sides[0].in_files(directories.path)
        return call.meanwhile(lambda: outcome().files.get(directories.path, ours))

    plan = plan_model(workspace, versions, rules)
    outcome = merge_model(workspace, versions, plan, call.heads, label="merging", meanwhile=of_file)
    report(workspace, directories.name, outcome, call.operation, argument=posixpath.dirname(call.path))
    merged = merged_files(repo, directories, outcome)
    record = record_of(directories, call.heads, rules, plan, outcome)
    results = {file: blob_id(content, repo.object_format) for file, content in merged.contents.items()}
    remember(workspace, call.heads, {directories.name: (record, results)})
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
