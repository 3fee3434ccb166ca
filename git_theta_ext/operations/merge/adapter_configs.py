"""Find what the configurations of an adapter say on each side of a merge: in a file beside it, or in its metadata."""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.merging.planning.layouts import facts_of_sides
from git_theta_ext.merging.planning.scaling import (
    AdapterScalings,
    Scaling,
    Scalings,
    config_pairs,
    three_way,
    with_scales,
)
from git_theta_ext.operations.sync.fetch import ensure_digests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.workspace import Workspace

CONFIG = "adapter_config.json"
_METADATA = "lora_adapter_metadata"
_MOST_BYTES = 1 << 20
_DIFFER = f"they differ; write the merged adapter's into {CONFIG}, then resolve by lora_svd, or take a side"
_UNKNOWN = "git does not say which commits are merged; take a side"
_NOT_READ = "it may differ; take a side"


def with_adapter_scales(workspace: Workspace, plan: Plan, path: str, commits: Sequence[str]) -> Plan:
    """Let LoRAs be merged by their configurations.

    Args:
        workspace: The repository and its store.
        plan: Of the merge.
        path: Of the checkpoint.
        commits: Of each side, as far as they are known.

    Raises:
        MissingError: A layout is neither here nor on a remote.
        CorruptError: A layout in the store is damaged.
    """
    changed = {decision.name for decision in plan.decisions if decision.changed_by}
    names = [decision.name for decision in plan.decisions]
    if not any(changed.intersection(pair) for pair in config_pairs(names)):
        return plan
    known = _in_metadata(workspace, plan) or _beside(workspace.repo, path, commits, len(plan.sides))
    return plan if known is None else with_scales(plan, known)


def scales_to_resolve(
    workspace: Workspace, path: str, commits: Sequence[str], config: bytes | None
) -> Callable[[Plan], Plan]:
    """Return what lets LoRAs that are resolved fit a configuration that is there by now.

    Args:
        workspace: The repository and its store.
        path: Of the checkpoint.
        commits: Of each side, as far as they are known.
        config: Content of the configuration beside the checkpoint, None if there is none.
    """

    def scaled(plan: Plan) -> Plan:
        if not config_pairs(decision.name for decision in plan.decisions if decision.action == "compute"):
            return plan
        if any(_METADATA in facts for facts in facts_of_sides(plan, workspace.store).sides):
            return with_scales(plan, AdapterScalings(None, (), None, "the metadata", _NOT_READ))
        known = _beside(workspace.repo, path, commits, len(plan.sides))
        if known is None:
            return plan
        return with_scales(plan, replace(known, merged=_scalings_of(config or b"")) if known.sides else known)

    return scaled


def config_in_worktree(repo: Repository, path: str) -> bytes | None:
    """Return the configuration that lies beside a checkpoint in the work tree, None if there is none."""
    file = worktree_of(repo) / posixpath.dirname(path) / CONFIG
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES)
    except OSError:
        return None


def config_in_commit(repo: Repository, path: str, commit: str) -> bytes | None:
    """Return the configuration that lies beside a checkpoint in a commit, None if there is none."""
    name = f"{commit}:{posixpath.join(posixpath.dirname(path), CONFIG)}"
    try:
        return repo.run("cat-file", "blob", name) if int(repo.run("cat-file", "-s", name)) <= _MOST_BYTES else None
    except ThetaError:
        return None


def _in_metadata(workspace: Workspace, plan: Plan) -> AdapterScalings | None:
    """Return what diffusers wrote into the file's header."""
    versions = plan.sides if plan.base is None else (plan.base, *plan.sides)
    ensure_digests(workspace, {version.skeleton.digest for version in versions})
    found = facts_of_sides(plan, workspace.store)
    if not any(_METADATA in facts for facts in found.sides):
        return None
    before = None if found.before is None else _components(found.before.get(_METADATA))
    sides = tuple(_components(facts.get(_METADATA)) for facts in found.sides)
    merged = _components(found.merged.get(_METADATA))
    return AdapterScalings(before, sides, merged, "the metadata")


def _components(said: bytes | None) -> Scalings:
    config: dict[str, dict[str, Any]] = {}
    for key, value in _object(_text(said)).items():
        component, _, name = key.partition(".")
        config.setdefault(component, {})[name] = value
    return Scalings(tuple((f"{component}.", Scaling.of(found)) for component, found in sorted(config.items())))


def _text(said: bytes | None) -> bytes:
    """Return the text that a metadata value holds."""
    try:
        value = json.loads(said or b'""')
    except (ValueError, RecursionError):
        return b""
    return value.encode() if isinstance(value, str) else b""


def _beside(repo: Repository, path: str, commits: Sequence[str], sides: int) -> AdapterScalings | None:
    """Return what PEFT wrote into a file beside the checkpoint."""

    def scalings(commit: str) -> Scalings:
        return _scalings_of(config_in_commit(repo, path, commit))

    if len(commits) != sides:
        there = scalings("HEAD")
        return AdapterScalings(None, (), None, CONFIG, _UNKNOWN) if there.components else None
    bases = repo.run("merge-base", "--octopus", "--all", *commits, check=False).decode().split()
    ancestors = {scalings(base) for base in bases}
    before = ancestors.pop() if len(ancestors) == 1 else None
    found = tuple(map(scalings, commits))
    if not any(side.components for side in found):
        return None
    return AdapterScalings(before, found, three_way(before, found), CONFIG, _DIFFER)


def _scalings_of(config: bytes | None) -> Scalings:
    found = _object(config or b"")
    return Scalings((("", Scaling.of(found)),)) if found.get("peft_type") == "LORA" else Scalings()


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
