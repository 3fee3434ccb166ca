"""Answer git's merge driver for a checkpoint that is a model by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.objects import blob_id
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.record import Record
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.operations.merge.driver_call import Answer
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
    rules = _rules(workspace, call, sides)
    planned = without_torch(plan_checkpoint(workspace, base, sides, rules))
    outcome = _merged(workspace, call, planned)
    content = outcome.manifest.to_bytes()
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


def _versions(call: DriverCall) -> tuple[Manifest | None, tuple[Manifest, Manifest]]:
    base, ours, theirs = call.contents
    ancestor = read_version(base, "the common ancestor's version", allow_conflicts=True) if base else None
    return ancestor, (read_version(ours, "our version"), read_version(theirs, "their version"))


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
