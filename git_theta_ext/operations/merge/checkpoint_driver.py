"""Answer git's merge driver for a checkpoint that is a model by itself."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.git.drafts import drafts_of_caller
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.operation import MERGE
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
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_theta_ext.merging.outcome import Outcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.merge.driver_call import DriverCall
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class PlannedCall:
    """The plan for a checkpoint that git asks the driver to merge.

    Attributes:
        call: What git gives the driver.
        rules: The rules.
        plan: The plan that followed from them.
        in_chunks: Whether the merged version is stored in chunks again: it is the external data of a model.
    """

    call: DriverCall
    rules: Rules
    plan: Plan
    in_chunks: bool

    @cached_property
    def values(self) -> dict[Digest, TensorSpec]:
        """The tensors and skeletons that the merge reads, as far as the plan shows it."""
        plan = self.plan
        versions = plan.sides if plan.base is None else (plan.base, *plan.sides)
        specs = {one.digest: one.spec for version in versions for one in version.parameters.values()}
        skeletons = {version.skeleton.digest: version.skeleton.spec for version in versions}
        wanted = set(plan.reads()).union(skeletons if plan.pairs else ())  # the metadata may have the scale of LoRAs
        wanted.update([plan.layout.skeleton.digest] if plan.computes_all else [])  # for the draft
        return {digest: spec for digest, spec in (specs | skeletons).items() if digest in wanted}


@dataclass(frozen=True)
class MergedCall:
    """A checkpoint that is merged.

    Attributes:
        planned: How it was merged.
        outcome: The result.
        content: The merged version as git stores it.
    """

    planned: PlannedCall
    outcome: Outcome
    content: bytes


def answer_checkpoint(workspace: Workspace, call: DriverCall) -> Answer:
    """Return the merged version of a checkpoint, report how it was merged, and record it.

    Args:
        workspace: The repository and its store.
        call: What git gives the driver.

    Raises:
        ThetaError: The checkpoint cannot be merged.
    """
    (answer,) = answers_of(workspace, [merge_call(workspace, plan_call(workspace, call))])
    return answer


def plan_call(workspace: Workspace, call: DriverCall) -> PlannedCall:
    """Plan the merge of a checkpoint.

    Raises:
        ThetaError: The versions cannot be merged.
    """
    base, sides = _versions(call)
    tensors = _as_tensors(workspace, call, base, sides)
    base, sides = tensors or (base, sides)
    rules = _rules(workspace, call, sides)
    planned = without_torch(plan_checkpoint(workspace, base, sides, rules, mixed=tensors is not None))
    return PlannedCall(call, rules, planned, tensors is not None)


def merge_call(workspace: Workspace, planned: PlannedCall) -> MergedCall:
    """Merge a checkpoint.

    Raises:
        ThetaError: The checkpoint cannot be merged.
    """
    call = planned.call
    # Other operations merge a checkpoint several times, such as once for each commit of a rebase.
    once = call.operation.name == MERGE.name and not planned.in_chunks
    drafts = drafts_of_caller(workspace.repo.git_dir) if once else None
    outcome = _merged(workspace, call, planned.plan, drafts)
    manifest = _in_chunks(workspace, call, outcome.manifest) if planned.in_chunks else outcome.manifest
    return MergedCall(planned, outcome, manifest.to_bytes())


def answers_of(workspace: Workspace, merged: Sequence[MergedCall]) -> list[Answer]:
    """Report how the checkpoints of a merge were merged, record it, and return what git gets."""
    object_format, notes = workspace.repo.object_format, {}
    for one in merged:
        call, rules, plan, unread = one.planned.call, one.planned.rules, one.planned.plan, one.outcome.unread
        report(workspace, call.path, one.outcome, call.operation)
        record = Record.of(call.path, call.oids(object_format), call.heads, rules, plan, unread)
        notes[call.path] = (record, {call.path: blob_id(one.content, object_format)})
    if merged:
        remember(workspace, merged[0].planned.call.heads, notes)
    return [Answer(one.content, bool(one.outcome.conflicts), one.outcome.manifest) for one in merged]


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


def _merged(workspace: Workspace, call: DriverCall, planned: Plan, drafts: Path | None = None) -> Outcome:
    return merge(
        workspace,
        planned,
        call.path,
        call.heads,
        label="merging",
        meanwhile=lambda outcome: call.meanwhile(lambda: outcome().manifest),
        drafts=drafts,
    )


def _rules(workspace: Workspace, call: DriverCall, sides: Sequence[Manifest]) -> Rules:
    """Return the rules for a checkpoint; if git repeats a merge, the rules that its commit records."""
    remade = call.operation.remade
    recorded = None if remade is None else recorded_rules(workspace, remade, call.path)
    names = [side.parameters for side in sides]
    return merge_rules(rule_sources(workspace.repo), *names, operation=call.operation, recorded=recorded)
