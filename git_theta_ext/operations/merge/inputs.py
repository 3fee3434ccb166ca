"""Gather what merges of checkpoints need from a repository: statistics, configurations, device and journal.

Planning and computing use these values only. They neither run git nor read settings.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.objects import manifest_blobs, named_objects, object_infos
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import merge_bases
from git_theta_ext.merging.execution.tasks import digests_of, read_here, tasks_of
from git_theta_ext.merging.planning.adapters import has_scaled_pairs
from git_theta_ext.merging.planning.layouts import with_facts_decided
from git_theta_ext.merging.planning.whole_layouts import with_whole_layouts
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.shards import CONFIG, MOST_CONFIG_BYTES
from git_theta_ext.operations.merge.statistics import (
    needs_statistics,
    outdated,
    used_statistics,
    with_absent_statistics,
)
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass, replace
from git_theta_ext.statistics.sidecar import sidecar_of
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.execution.tasks import Statistics
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.merge.adapter_scales import AdapterFiles
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class MergeInputs:
    """The inputs of the merge of one checkpoint. The store has the values, if a remote has them.

    Attributes:
        path: Path of the checkpoint.
        plan: The plan, with LoRAs scaled by the configurations of their adapters.
        statistics: The statistics that the plan's methods need.
        notes: Notes on the statistics, for the user.
        device: The value of ``theta.merge.device``.
        journal: The file from which an interrupted merge is resumed.
    """

    path: str
    plan: Plan
    statistics: Statistics
    notes: tuple[str, ...]
    device: str
    journal: Path


@dataclass(frozen=True)
class ResolveInputs:
    """The inputs of resolving conflicts of one checkpoint. The store has the values.

    Attributes:
        device: The value of ``theta.merge.device``.
        adapters: The adapter configurations of the merged commits; None if no LoRA is in conflict.
        config: The adapter configuration that the resolved checkpoint is to have; None if there is none.
    """

    device: str
    adapters: AdapterFiles | None
    config: bytes | None


def gather_inputs(  # noqa: PLR0913 - named, and the last two have defaults
    workspace: Workspace,
    plan: Plan,
    paths: Sequence[str],
    commits: Sequence[str],
    adapters: AdapterFiles | None = None,
    *,
    elsewhere: bool = False,
) -> MergeInputs:
    """Gather the inputs of executing a plan, and fetch the values that it reads.

    A value that cannot be fetched is reported. A parameter that cannot be merged without it becomes a conflict.

    Args:
        workspace: The repository and its store.
        plan: The plan.
        paths: Path of the checkpoint. Of a model of several files, its name, and then their paths.
        commits: The commit of each side, as far as it is known.
        adapters: The adapter configurations of the sides; None to read them from the commits.
        elsewhere: Whether jobs on machines without this store read what they merge.

    Raises:
        MissingError: A layout is neither here nor on a remote.
        CorruptError: A layout in the store is damaged.
        ManifestError: The manifest of statistics is not valid.
    """
    path = paths[0]
    fetch_values(workspace, path, read_here(plan, {}) if elsewhere else plan.reads())
    plan = _scaled(workspace, plan, path, commits, adapters)
    beside = _statistics_beside(workspace.repo, plan, paths, commits)
    statistics = {number: manifest.parameters for number, manifest in beside.items()}
    used = used_statistics(plan, beside)
    with suppress(ThetaError):  # a missing value ends as a conflict that says so
        if beside:
            tasks = tasks_of(plan.decisions, statistics)
            ensure_digests(workspace, read_here(plan, statistics) if elsewhere else digests_of(tasks))
        ensure_digests(workspace, {beside[number].skeleton.digest for number in used})
    # Statistics of shards were collected with the values of each of them.
    notes = tuple(outdated(workspace.store, plan, beside)) if len(paths) == 1 else ()
    return _inputs(workspace, path, plan, statistics, notes)


def fetch_values(workspace: Workspace, path: str, digests: Iterable[Digest]) -> None:
    """Fetch the values that a merge of a checkpoint reads; a failure is reported.

    A parameter that cannot be merged without such a value ends in conflict, and the others are merged.
    """
    try:
        ensure_digests(workspace, digests)
    except ThetaError as error:
        workspace.reporter.warning(f"{shown_path(path)}: {error.message}", error.hint)


def gather_preview(
    workspace: Workspace, plan: Plan, path: str, commits: Sequence[str], adapters: AdapterFiles | None = None
) -> MergeInputs:
    """Gather the inputs of a preview of a merge, without fetching or reading a tensor.

    Args:
        workspace: The repository and its store.
        plan: The plan.
        path: Path of the checkpoint.
        commits: The commit of each side.
        adapters: The adapter configurations of the sides; None to read them from the commits.
    """
    with suppress(ThetaError):  # the plan can be shown without the skeletons
        plan = _scaled(workspace, plan, path, commits, adapters)
        plan = with_facts_decided(with_whole_layouts(plan, workspace.store), workspace.store)
    beside = _statistics_beside(workspace.repo, plan, [path], commits)
    if needs_statistics(plan):
        plan = with_absent_statistics(plan, beside)
    return _inputs(workspace, path, plan, {number: manifest.parameters for number, manifest in beside.items()})


def gather_resolution(
    workspace: Workspace, manifest: Manifest, path: str, commits: Sequence[str], config: bytes | None
) -> ResolveInputs:
    """Gather the inputs of resolving conflicts.

    Args:
        workspace: The repository and its store.
        manifest: The manifest with the conflicts.
        path: Path of the checkpoint.
        commits: The commit of each side, as far as it is known.
        config: The adapter configuration that the resolved checkpoint will have.
    """
    adapters = None
    if has_scaled_pairs(conflict.name for conflict in manifest.conflicts):
        adapters = adapter_files(workspace.repo, path, commits)
    return ResolveInputs(workspace.settings.merge_device, adapters, config)


def config_in_worktree(repo: Repository, path: str) -> bytes | None:
    """Return the adapter configuration in the directory of a checkpoint in the work tree; None if there is none."""
    file = worktree_of(repo) / posixpath.dirname(path) / CONFIG
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_CONFIG_BYTES)
    except OSError:
        return None


def config_in_commit(repo: Repository, path: str, commit: str) -> bytes | None:
    """Return the adapter configuration in the directory of a checkpoint in a commit; None if there is none."""
    name = f"{commit}:{posixpath.join(posixpath.dirname(path), CONFIG)}"
    try:
        size = int(repo.run("cat-file", "-s", name))
        return repo.run("cat-file", "blob", name) if size <= MOST_CONFIG_BYTES else None
    except ThetaError:
        return None


def _inputs(
    workspace: Workspace, path: str, plan: Plan, statistics: Statistics, notes: tuple[str, ...] = ()
) -> MergeInputs:
    from blake3 import blake3

    journal = workspace.journals / blake3(os.fsencode(path)).hexdigest()[:32]
    return MergeInputs(path, plan, statistics, notes, workspace.settings.merge_device, journal)


def _scaled(workspace: Workspace, plan: Plan, path: str, commits: Sequence[str], adapters: AdapterFiles | None) -> Plan:
    # A merge that writes the configuration has to know the scale of every LoRA, and else that of those that changed.
    written = adapters is not None and adapters.written
    if adapters is not None and adapters.written:
        from git_theta_ext.merging.planning.adapter_meaning import with_one_meaning  # most models are no adapters

        plan = with_one_meaning(plan, next(iter(adapters.ancestors), None), adapters.sides)
    changed = None if written else {decision.name for decision in plan.decisions if decision.changed_by}
    if not has_scaled_pairs((decision.name for decision in plan.decisions), changed):
        return plan
    from git_theta_ext.operations.merge.adapter_scales import with_adapter_scales  # as above

    versions = plan.sides if plan.base is None else (plan.base, *plan.sides)
    ensure_digests(workspace, {version.skeleton.digest for version in versions})
    files = adapters or adapter_files(workspace.repo, path, commits)
    return with_adapter_scales(plan, workspace.store, files)


def adapter_files(repo: Repository, path: str, commits: Sequence[str]) -> AdapterFiles:
    """Return the adapter configurations in the directory of a checkpoint in some commits."""
    from git_theta_ext.operations.merge.adapter_scales import AdapterFiles  # most models are no adapters

    revs = [*commits, *merge_bases(repo, commits), "HEAD"]
    names = [] if "\n" in path else [f"{rev}:{posixpath.join(posixpath.dirname(path), CONFIG)}" for rev in revs]
    # Most checkpoints have none, which one process can tell for all commits.
    absent = bool(names) and not any(named_objects(repo, names))
    configs = [None if absent else config_in_commit(repo, path, rev) for rev in revs]
    return AdapterFiles(tuple(configs[: len(commits)]), tuple(configs[len(commits) : -1]), configs[-1])


def _statistics_beside(
    repo: Repository, plan: Plan, paths: Sequence[str], commits: Sequence[str]
) -> dict[int, Manifest]:
    """Return the manifests of the statistics that a plan's methods need, if the sides' commits have them.

    Those of several shards become one manifest.
    """
    if not needs_statistics(plan) or len(commits) != len(plan.sides):
        return {}
    wanted = set(map(sidecar_of, paths))
    oids = {
        number: [entry.oid for entry in repo.entries(commit) if entry.path in wanted and entry.regular]
        for number, commit in enumerate(commits)
    }
    content = dict(manifest_blobs(repo, object_infos(repo, {oid for some in oids.values() for oid in some})))
    beside = {}
    for number, some in oids.items():
        manifests = [Manifest.parse(content[oid]) for oid in some if oid in content]
        if manifests:
            parameters = {name: value for manifest in manifests for name, value in manifest.parameters.items()}
            beside[number] = replace(manifests[0], parameters=parameters)
    return beside
