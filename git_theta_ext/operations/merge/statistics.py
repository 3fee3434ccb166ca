"""Find the statistics that lie beside a checkpoint in the commits that are merged."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.operation import NAMED
from git_theta_ext.git.revisions import head_of, merge_heads
from git_theta_ext.model.layout import Literal
from git_theta_ext.model.manifest import Manifest, side_names, values_digest
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.registry import find_merge
from git_theta_ext.statistics.sidecar import facts_of, sidecar_of
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store


def _needs_statistics(plan: Plan) -> bool:
    """Tell whether a method that is asked for needs statistics."""
    asked = {decision.choice.method for decision in plan.decisions if decision.action == "compute"}
    return any(find_merge(method).contract.sidecars for method in asked)


def merged_commits(repo: Repository) -> list[str]:
    """Return the commits that git is merging at the moment: the current one, and those that it has names for.

    ``git rebase --rebase-merges`` makes merges again without naming their commits.
    """
    head = head_of(repo)
    others = [name.removeprefix(NAMED) for name in os.environ if name.startswith(NAMED)]
    if not others and (repo.git_dir / "rebase-merge").is_dir():
        others = merge_heads(repo)
    return [*([head] if head else []), *(other for other in others if other != head)]


def statistics_beside(repo: Repository, plan: Plan, path: str, commits: Sequence[str]) -> dict[int, Manifest]:
    """Return the manifests of the statistics that a plan's methods need, as far as the sides' commits have them.

    Their values may be nowhere near.

    Args:
        repo: The repository.
        plan: What is merged.
        path: Of the checkpoint.
        commits: Of each side.

    Raises:
        ManifestError: The manifest of statistics is broken.
    """
    if not _needs_statistics(plan) or len(commits) != len(plan.sides):
        return {}
    wanted = sidecar_of(path)
    oids = {
        number: entry.oid
        for number, commit in enumerate(commits)
        for entry in repo.entries(commit)
        if entry.path == wanted and entry.regular
    }
    found = dict(manifest_blobs(repo, object_infos(repo, set(oids.values()))))
    return {number: Manifest.parse(found[oid]) for number, oid in oids.items() if oid in found}


def outdated(workspace: Workspace, plan: Plan, beside: Mapping[int, Manifest]) -> list[str]:
    """Say which sides' statistics were collected with other values than the side has.

    Args:
        workspace: The repository and its store.
        plan: What is merged.
        beside: The statistics' manifest for each side that has some.
    """
    asked = [decision for decision in plan.decisions if decision.action == "compute"]
    used = {n for d in asked if find_merge(d.choice.method).contract.sidecars for n in d.changed_by} & set(beside)
    with suppress(ThetaError):  # then nothing is known of them
        ensure_digests(workspace, {beside[number].skeleton.digest for number in used})
    names = side_names(len(plan.sides))
    return [
        f"the statistics beside {names[number]} were collected with other values: git theta stats collect"
        for number in sorted(used)
        if (told := _values(workspace.store, beside[number])) and told != values_digest(plan.sides[number].parameters)
    ]


def _values(store: Store, statistics: Manifest) -> str:
    """Return the digest of the values that statistics were collected with, empty where it is not known."""
    with suppress(ThetaError):
        layout = read_skeleton(store, statistics.skeleton, parameters=len(statistics.parameters))
        first = (memoryview(part.data) for part in layout.segments[:1] if isinstance(part, Literal))
        return next((facts_of(header).values for header in first), "")
    return ""
