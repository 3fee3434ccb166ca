"""Merge several branches into one commit: ``git merge -s theta A B C``.

Git merges all other files, branch by branch. Checkpoints that several branches changed are merged by parameter, all
versions at once, against the common ancestor of all branches. The work tree and the index are only changed at the end,
so a merge that fails leaves them unchanged.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import in_chunks_again
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import MergeError, RepositoryError
from git_theta_ext.git.entries import TreeEntry, update_index
from git_theta_ext.git.merge_tree import combine, common_ancestor, with_files
from git_theta_ext.git.objects import write_blob
from git_theta_ext.git.operation import MERGE, NAMED, repeated_merge
from git_theta_ext.merging.record import Record
from git_theta_ext.model.conflicts import MOST_SIDES, side_names
from git_theta_ext.operations.merge.candidates import checkpoints, read_manifests
from git_theta_ext.operations.merge.external_data import as_tensors
from git_theta_ext.operations.merge.planning import plan_checkpoint, without_torch
from git_theta_ext.operations.merge.record import recorded_rules
from git_theta_ext.operations.merge.result import remember, report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules, warn_of_former_settings
from git_theta_ext.operations.merge.run import merge
from git_theta_ext.operations.merge.strategy_models import merged_model, models_among, planned_model
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.merge_tree import Combined
    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.outcome import Outcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.operations.merge.candidates import CheckpointVersions
    from git_theta_ext.operations.merge.notes import Results
    from git_theta_ext.operations.merge.strategy_models import ModelCandidate
    from git_theta_ext.operations.workspace import Workspace

MERGED = 0
CONFLICTS = 1
CANNOT = 2
"""The exit code of a strategy that cannot do a merge at all; git then restores the previous state."""

_REMOVED = "0"


@dataclass(frozen=True)
class StrategyResult:
    """The result of a merge of several branches.

    Attributes:
        code: The exit code of the strategy.
        messages: Git's messages about other files.
    """

    code: int
    messages: tuple[str, ...] = ()


def run(workspace: Workspace, bases: Sequence[str], heads: Sequence[str], words: Sequence[str]) -> StrategyResult:
    """Merge branches into the work tree and the index.

    Args:
        workspace: The repository, with a work tree, and its store.
        bases: The best common ancestors of all heads; empty if there are none.
        heads: Ids of the current commit and of those to merge into it.
        words: Merge method and options that override the rules, such as ``method=ties`` and ``density=0.2``.

    Returns:
        The exit code: 0 if all is merged, 1 if conflicts are left in the work tree and the index, 2 if git refused. And
        git's messages about other files.

    Raises:
        ThetaError: The merge is not possible; nothing has changed.
    """
    if len(heads) > MOST_SIDES:
        raise MergeError(
            f"{len(heads)} sides exceed the limit of {MOST_SIDES}",
            hint="git merge -s theta BRANCH ... with fewer branches",
        )
    repo = workspace.repo
    _check_index(repo)
    combined = combine(repo, heads)
    ancestor, repeated = common_ancestor(repo, bases), repeated_merge(repo)
    candidates = checkpoints(repo, ancestor, heads, combined.tree)
    paths = dict.fromkeys([*(c.merged.path for c in candidates), *(entry.path for entry in combined.stages)])
    models = models_among(repo, ancestor, heads, paths)
    combined, candidates = _apart(combined, candidates, models)
    plans = planned(workspace, candidates, words, repeated)
    planned_models = [planned_model(workspace, model, words, repeated) for model in models]
    _check_worktree(repo, combined.tree, candidates)
    if candidates or models:
        _warn(workspace, bases, heads)
    operation = replace(MERGE, remade=repeated)
    merged_models = [merged_model(workspace, model, operation) for model in planned_models]
    outcomes = {c.merged.path: _merged(workspace, plans[c.merged.path][1], c, operation) for c in candidates}
    merged = {c.merged.path: _stored(repo, c.merged, outcomes[c.merged.path]) for c in candidates}
    in_models = chain.from_iterable(model.entries for model in merged_models)
    tree = with_files(repo, combined.tree, [*merged.values(), *in_models])
    # Not captured: the filter that writes the checkpoints shows its progress.
    update = ["git", "read-tree", "-m", "-u", "HEAD", tree]
    if subprocess.run(update, cwd=repo.folder, env=repo.environment(), check=False).returncode:
        return StrategyResult(CANNOT)
    records = _records(candidates, plans, outcomes, merged)
    remember(workspace, heads, records | {model.name: (model.record, model.results) for model in merged_models})
    conflicted = [candidate for candidate in candidates if outcomes[candidate.merged.path].conflicts]
    _explain_sides(workspace, conflicted)
    stages = [stage for model in merged_models for stage in model.stages]
    stages += chain.from_iterable(map(_conflict_stages, conflicted))
    _mark(repo, [*_stages(combined, candidates, merged), *stages])
    return StrategyResult(MERGED if combined.clean and not stages else CONFLICTS, tuple(combined.messages))


def _explain_sides(workspace: Workspace, conflicted: Sequence[CheckpointVersions]) -> None:
    """Say which branches the sides of conflicts are, of checkpoints that the current branch does not have."""
    for candidate in conflicted:
        if candidate.heads[0] == candidate.merge_heads[0]:
            continue
        branches = [os.environ.get(f"{NAMED}{head}", head[:12]) for head in candidate.heads]
        sides = zip(side_names(len(branches)), branches, strict=True)
        texts = ", ".join(f"{side} is {branch}" for side, branch in sides)
        workspace.reporter.note(f"{shown_path(candidate.merged.path)}: HEAD does not have it; {texts}")


def planned(
    workspace: Workspace, candidates: Sequence[CheckpointVersions], words: Sequence[str], repeated: str | None = None
) -> dict[str, tuple[Rules, Plan]]:
    """Return the rules and the plan for merging each checkpoint, by path.

    Args:
        workspace: The repository and its store.
        candidates: The checkpoints.
        words: Merge method and options that override the rules.
        repeated: The merge commit that git repeats, as in a rebase; its message records the rules.

    Raises:
        ManifestError: A version is not a manifest, or has conflicts.
        MergeError: The rules are not valid.
        PluginError: A method is not installed.
    """
    warn_of_former_settings(workspace.settings, workspace.reporter)
    plans, sources = {}, rule_sources(workspace.repo)
    for candidate in candidates:
        path = candidate.merged.path
        base, sides = read_manifests(workspace.repo, candidate)
        tensors = as_tensors(workspace, path, base, sides, candidate.revisions)
        base, sides = tensors or (base, sides)
        recorded = None if repeated is None else recorded_rules(workspace, repeated, path)
        whole = merge_rules(sources, *(side.parameters for side in sides), words=words, recorded=recorded)
        rules = candidate.rules_of_sides(whole)
        planned = plan_checkpoint(workspace, base, sides, rules, mixed=tensors is not None)
        plans[path] = rules, without_torch(planned)
    return plans


def _apart(
    combined: Combined, candidates: Sequence[CheckpointVersions], models: Sequence[ModelCandidate]
) -> tuple[Combined, list[CheckpointVersions]]:
    """Return what git merged, and the checkpoints to merge, without the files of models of several files."""
    paths = {path for model in models for path in model.paths()}
    stages = tuple(entry for entry in combined.stages if entry.path not in paths)
    messages = tuple(text for text in combined.messages if not any(path in text for path in paths))
    clean = combined.clean or (bool(combined.stages) and not stages)
    others = [candidate for candidate in candidates if candidate.merged.path not in paths]
    return replace(combined, clean=clean, stages=stages, messages=messages), others


def _records(
    candidates: Sequence[CheckpointVersions],
    plans: Mapping[str, tuple[Rules, Plan]],
    outcomes: Mapping[str, Outcome],
    merged: Mapping[str, TreeEntry],
) -> dict[str, tuple[Record | None, Results]]:
    records: dict[str, tuple[Record | None, Results]] = {}
    for candidate in candidates:
        path = candidate.merged.path
        ids = [None if candidate.base is None else candidate.base.oid, *(side.oid for side in candidate.sides)]
        record = Record.of(path, ids, candidate.heads, *plans[path], outcomes[path].unread)
        records[path] = record, {path: merged[path].oid}
    return records


def _merged(workspace: Workspace, plan: Plan, versions: CheckpointVersions, operation: Operation) -> Outcome:
    path = versions.merged.path
    outcome = merge(workspace, plan, path, versions.heads, label=f"merging {shown_path(path)}")
    report(workspace, path, outcome, operation)
    return replace(outcome, manifest=in_chunks_again(outcome.manifest, workspace.store, path))


def _stored(repo: Repository, entry: TreeEntry, outcome: Outcome) -> TreeEntry:
    return replace(entry, oid=write_blob(repo, outcome.manifest.to_bytes()))


def _check_index(repo: Repository) -> None:
    changed = repo.run("diff-index", "--cached", "--name-only", "-z", "HEAD", "--").decode(errors="surrogateescape")
    if changed:
        raise MergeError(
            f"changes to {changed.partition(chr(0))[0]} are in the index; a merge would overwrite them",
            hint="git commit, or git stash",
        )


def _check_worktree(repo: Repository, tree: str, candidates: Sequence[CheckpointVersions]) -> None:
    """Check, before anything is computed, that git will be able to update the work tree at the end."""
    if candidates:
        placeholder = write_blob(repo, b"")  # a placeholder for the manifests
        tree = with_files(repo, tree, [replace(candidate.merged, oid=placeholder) for candidate in candidates])
    try:
        repo.run("read-tree", "-n", "-m", "-u", "HEAD", tree)
    except RepositoryError as error:
        raise MergeError(error.message, hint="git commit, or git stash, the changes in the work tree") from error


def _warn(workspace: Workspace, bases: Sequence[str], heads: Sequence[str]) -> None:
    """Report commits that several branches share since the ancestor that their changes are measured from."""
    counts: Counter[str] = Counter()
    for head in heads:
        counts.update(workspace.repo.run("rev-list", head, "--not", *bases).decode().split())
    shared = sum(count > 1 for count in counts.values())
    if shared:
        workspace.reporter.warning(
            f"several of the branches contain {plural(shared, 'commit')} since the common ancestor;"
            " their changes count for each of these branches"
        )


def _conflict_stages(versions: CheckpointVersions) -> list[TreeEntry]:
    """Return a checkpoint's stages: the ancestor's version, ours, and the first other one that differs."""
    ours, *others = versions.sides
    theirs = next(other for other in others if other.oid != ours.oid)
    numbered = {1: versions.base, 2: ours, 3: theirs}
    path = versions.merged.path
    return [replace(entry, path=path, stage=stage) for stage, entry in numbered.items() if entry is not None]


def _stages(
    combined: Combined, candidates: Sequence[CheckpointVersions], merged: Mapping[str, TreeEntry]
) -> list[TreeEntry]:
    """Return the stages of files in conflict, with merged checkpoints instead of the version that git would keep."""
    replaced = {(candidate.merged.path, candidate.merged.oid) for candidate in candidates}
    return [
        replace(entry, oid=merged[entry.path].oid) if (entry.path, entry.oid) in replaced else entry
        for entry in combined.stages
    ]


def _mark(repo: Repository, stages: Sequence[TreeEntry]) -> None:
    """Replace merged files in the index by the stages of files in conflict."""
    no_object = "0" * 2 * repo.oid_bytes
    paths = dict.fromkeys(entry.path for entry in stages)
    cleared = [TreeEntry(path, no_object, _REMOVED) for path in paths]
    update_index(repo.run, [*cleared, *stages])
