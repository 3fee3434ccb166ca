"""Answer git's merge driver for a checkpoint that is a model by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.objects import blob_id
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.record import Record
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.operations.merge.driver_call import Answer
from git_theta_ext.operations.merge.merged_trees import candidate_trees
from git_theta_ext.operations.merge.model_directories import directories_of
from git_theta_ext.operations.merge.planning import plan_checkpoint, without_torch
from git_theta_ext.operations.merge.record import recorded_rules
from git_theta_ext.operations.merge.result import remember, report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules
from git_theta_ext.operations.merge.run import merge
from git_theta_ext.operations.merge.versions import read_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.outcome import Outcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.merge.driver_call import DriverCall
    from git_theta_ext.operations.workspace import Workspace


def answer_checkpoint(workspace: Workspace, call: DriverCall) -> Answer:
    """Return the merged version of a checkpoint, report how it was merged, and record it.

    Args:
        workspace: The repository and its store.
        call: What git gives the driver.

    Raises:
        ThetaError: The checkpoint cannot be merged.
    """
    base, sides = _versions(call)
    tensors = _as_tensors(workspace, call, base, sides)
    base, sides = tensors or (base, sides)
    rules = _rules(workspace, call, sides)
    planned = without_torch(plan_checkpoint(workspace, base, sides, rules, mixed=tensors is not None))
    outcome = _merged(workspace, call, planned)
    content = (outcome.manifest if tensors is None else _in_chunks(workspace, call, outcome.manifest)).to_bytes()
    report(workspace, call.path, outcome, call.operation)
    record = Record.of(call.path, call.oids(workspace.repo.object_format), call.heads, rules, planned, outcome.unread)
    result = blob_id(content, workspace.repo.object_format)
    remember(workspace, call.heads, {call.path: (record, {call.path: result})})
    return Answer(content, bool(outcome.conflicts))


def answer_ancestor(workspace: Workspace, call: DriverCall) -> Answer:
    """Return a common ancestor that is merged from several; what they differ in is a conflict in it.

    Raises:
        ThetaError: The versions cannot be merged.
    """
    base, sides = _versions(call)
    outcome = _merged(workspace, call, plan(base, sides, Rules.only("conflict")))
    return Answer(outcome.manifest.to_bytes(), conflicted=False)


def _versions(call: DriverCall) -> tuple[Manifest | None, Sequence[Manifest]]:
    base, ours, theirs = call.contents
    ancestor = read_version(base, "the common ancestor's version", allow_conflicts=True) if base else None
    return ancestor, (read_version(ours, "our version"), read_version(theirs, "their version"))


def _as_tensors(
    workspace: Workspace, call: DriverCall, base: Manifest | None, sides: Sequence[Manifest]
) -> tuple[Manifest | None, Sequence[Manifest]] | None:
    """Return the tensors of external data; None if it is another file, or it is unknown what git merges."""
    if any(side.format != "opaque" for side in sides):
        return None
    # Importing this takes as long as all else that a call does for most files.
    from git_theta_ext.operations.merge.external_data import as_tensors

    repo = workspace.repo
    oids, candidates = call.oids(repo.object_format), candidate_trees(repo, call.heads, call.operation)
    directories = directories_of(repo, candidates, call.path, oids)
    if directories is None:
        return None
    trees = directories.trees
    return as_tensors(
        workspace, call.path, base, sides, [tree for tree in (trees.base, *trees.sides) if tree is not None]
    )


def _in_chunks(workspace: Workspace, call: DriverCall, merged: Manifest) -> Manifest:
    from git_theta_ext.checkpoint.external_data import in_chunks_again

    return in_chunks_again(merged, workspace.store, call.path)


def _merged(workspace: Workspace, call: DriverCall, planned: Plan) -> Outcome:
    return merge(
        workspace,
        planned,
        call.path,
        call.heads,
        label="merging",
        meanwhile=lambda outcome: call.meanwhile(lambda: outcome().manifest),
    )


def _rules(workspace: Workspace, call: DriverCall, sides: Sequence[Manifest]) -> Rules:
    """Return the rules for a checkpoint; if git repeats a merge, the rules that its commit records."""
    remade = call.operation.remade
    recorded = None if remade is None else recorded_rules(workspace, remade, call.path)
    names = [side.parameters for side in sides]
    return merge_rules(rule_sources(workspace.repo), *names, operation=call.operation, recorded=recorded)
