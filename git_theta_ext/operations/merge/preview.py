"""Preview a merge of checkpoints from their manifests and layouts, without reading a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.devices.open import AUTO, device_names
from git_theta_ext.merging.execution.memory import DeviceMemory, budget, threads_each
from git_theta_ext.merging.execution.tasks import contracts_of, single_tasks
from git_theta_ext.operations.merge.adapter_scales import files_of
from git_theta_ext.operations.merge.branches import merge_of_branches
from git_theta_ext.operations.merge.inputs import gather_preview
from git_theta_ext.operations.merge.strategy import planned
from git_theta_ext.operations.merge.strategy_models import planned_model
from git_theta_ext.records import dataclass
from git_theta_ext.util.threads import thread_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.merge.adapter_scales import AdapterFiles
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class MergePreview:
    """A preview of the merge of a checkpoint.

    Attributes:
        plan: The plan of the merge.
        budget: The memory that the merge takes; None if nothing is computed.
    """

    plan: Plan
    budget: Budget | None


def plan_merge(
    workspace: Workspace, revisions: Sequence[str], words: Sequence[str], places: Sequence[str] = ()
) -> dict[str, MergePreview]:
    """Plan the merge of some branches into the current one.

    Args:
        workspace: The repository and its store.
        revisions: The branches to merge.
        words: Merge method and options that override the rules, as ``git merge -s theta -X`` takes them.
        places: Files and directories, relative to the top; a model is planned if one of its files is among these.
            All are, if there are none.

    Returns:
        The preview of each checkpoint that several branches changed, by path.

    Raises:
        RepositoryError: There is no such commit.
        ThetaError: The merge is not possible; the message says why.
    """
    merge = merge_of_branches(workspace.repo, revisions, places)
    plans = {path: plan for path, (_, plan) in planned(workspace, merge.checkpoints, words).items()}
    of = {versions.merged.path: versions.heads for versions in merge.checkpoints}
    of |= {model.directories.name: merge.heads for model in merge.models}
    plans |= {model.directories.name: planned_model(workspace, model, words).plan for model in merge.models}
    adapters = {model.directories.name: files_of(model.versions) for model in merge.models}
    return {path: _preview(workspace, path, of[path], plan, adapters.get(path)) for path, plan in sorted(plans.items())}


def _preview(
    workspace: Workspace, path: str, heads: Sequence[str], plan: Plan, adapters: AdapterFiles | None
) -> MergePreview:
    inputs = gather_preview(workspace, plan, path, heads, adapters)
    plan = inputs.plan
    if all(decision.action != "compute" for decision in plan.decisions):
        return MergePreview(plan, None)
    tasks = single_tasks(plan, inputs.statistics)
    names = device_names(inputs.device, [*(task.method.contract for task in tasks), *contracts_of(plan.pairs)])
    threads = threads_each(thread_count(workspace.settings.threads), len(names))
    automatic = inputs.device == AUTO
    memories = [DeviceMemory.of(name, threads, matrices_only=automatic) for name in names]
    return MergePreview(plan, budget(plan, tasks, memories, DeviceMemory.of(CPU, threads) if automatic else None))
