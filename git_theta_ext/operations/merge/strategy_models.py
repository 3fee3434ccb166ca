"""Merge models of several files of any number of branches at once, for ``git merge -s theta``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.entries import TreeEntry
from git_theta_ext.git.objects import blob_id, write_blobs
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.operations.merge.merged_trees import MergedTrees
from git_theta_ext.operations.merge.model_directories import directories_at
from git_theta_ext.operations.merge.model_merge import merge_model, plan_model, record_of
from git_theta_ext.operations.merge.record import recorded_rules
from git_theta_ext.operations.merge.resharded import in_our_pieces
from git_theta_ext.operations.merge.result import report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.record import Record
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.operations.merge.model_directories import MergedDirectories
    from git_theta_ext.operations.merge.notes import Results
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class ModelCandidate:
    """A model of several files that several branches changed.

    Attributes:
        directories: Its directory in each commit.
        versions: Its versions.
    """

    directories: MergedDirectories
    versions: ModelVersions

    def paths(self) -> set[str]:
        """Return the paths of the files of all versions, also those that they had before a rename."""
        paths = self.versions.paths()
        return paths | self.directories.old_paths(paths)


@dataclass(frozen=True)
class PlannedModel:
    """The rules and the plan for merging a model."""

    candidate: ModelCandidate
    rules: Rules
    plan: Plan


@dataclass(frozen=True)
class StrategyModel:
    """A model that is merged.

    Attributes:
        name: The path that the model has, or would have, as one file.
        entries: Its files for a tree; files that it does not have are removed.
        stages: The versions of files in conflict.
        record: The record of the merge; None if no rule mattered.
        results: Path to the object id of each file.
    """

    name: str
    entries: tuple[TreeEntry, ...]
    stages: tuple[TreeEntry, ...]
    record: Record | None
    results: Results


def models_among(
    repo: Repository, base: str | None, heads: Sequence[str], paths: Iterable[str]
) -> list[ModelCandidate]:
    """Return the models of several files that some files belong to, if all versions can be merged as models.

    Args:
        repo: The repository.
        base: The common ancestor, or None.
        heads: The merged commits.
        paths: Files that several branches changed.

    Raises:
        ManifestError: A manifest is broken, or a side was committed with conflicts.
    """
    candidates: dict[str, ModelCandidate] = {}
    trees = MergedTrees(base, tuple(heads))
    for path in paths:
        if any(path in candidate.paths() for candidate in candidates.values()):
            continue
        directories = directories_at(repo, trees, path)
        versions = directories.versions() if directories.sharded() else None
        if versions is not None:
            candidates[directories.name] = ModelCandidate(directories, versions)
    return list(candidates.values())


def planned_model(
    workspace: Workspace, candidate: ModelCandidate, words: Sequence[str], repeated: str | None = None
) -> PlannedModel:
    """Return the rules and the plan for merging a model; see ``git_theta_ext.operations.merge.strategy.planned``."""
    name, sides = candidate.directories.name, candidate.versions.sides
    recorded = None if repeated is None else recorded_rules(workspace, repeated, name)
    names = [side.parameters for side in sides]
    rules = merge_rules(rule_sources(workspace.repo), *names, words=words, recorded=recorded)
    candidate = replace(candidate, versions=in_our_pieces(workspace, candidate.versions))
    return PlannedModel(candidate, rules, plan_model(workspace, candidate.versions, rules))


def merged_model(workspace: Workspace, planned: PlannedModel, operation: Operation) -> StrategyModel:
    """Merge a model, and store its manifests in git.

    Args:
        workspace: The repository and its store.
        planned: The model.
        operation: The operation that git is performing.

    Raises:
        ThetaError: See ``git_theta_ext.merging.apply.apply``.
    """
    repo, candidate = workspace.repo, planned.candidate
    directories, versions = candidate.directories, candidate.versions
    heads, name = directories.trees.sides, directories.name
    outcome = merge_model(workspace, versions, planned.plan, heads, label=f"merging {shown_path(name)}")
    report(workspace, name, outcome, operation, argument=directories.folder)
    contents = outcome.contents()
    stored = zip(contents, write_blobs(repo, list(contents.values())), strict=True)
    entries = [TreeEntry(path, oid, directories.mode(path)) for path, oid in stored]
    gone = [TreeEntry(path, "0" * 2 * repo.oid_bytes, "0") for path in candidate.paths() - contents.keys()]
    stages: list[TreeEntry] = []
    for entry in entries:
        content = contents[entry.path]
        if is_manifest(content) and Manifest.parse(content).conflicted:
            stages += _stages(directories, entry)
    record = record_of(directories, heads, planned.rules, planned.plan, outcome)
    results = {path: blob_id(content, repo.object_format) for path, content in contents.items()}
    return StrategyModel(name, (*entries, *gone), tuple(stages), record, results)


def _stages(directories: MergedDirectories, entry: TreeEntry) -> list[TreeEntry]:
    """Return a file's stages: the ancestor's version, ours, and the first other one that differs."""
    base = None if directories.base is None else directories.base.files.get(entry.path)
    ours, *others = [side.files.get(entry.path, entry.oid) for side in directories.sides]
    theirs = next((other for other in others if other != ours), ours)
    numbered = {1: base, 2: ours, 3: theirs}
    return [TreeEntry(entry.path, oid, entry.mode, stage) for stage, oid in numbered.items() if oid is not None]
