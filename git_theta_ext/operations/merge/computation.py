"""Compute the values of a merge, and store them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.comparison.words import human_bytes, listed, plural
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.execution.tasks import digests_of, tasks_of
from git_theta_ext.merging.outcome import Outcome
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.operations.merge.inputs import gather_inputs
from git_theta_ext.records import replace
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import LARGEST_KEPT, keep_freed_memory, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from git_theta_ext.checkpoint.draft import Draft
    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.execution.tasks import Statistics
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.merge.adapter_scales import AdapterFiles
    from git_theta_ext.operations.merge.inputs import MergeInputs
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_Result = TypeVar("_Result", bound=Outcome)
_INTERRUPTED = Reason.of(ConflictCode.INTERRUPTED, "the merge was interrupted before it was computed")


def bytes_to_compute(plan: Plan) -> int:
    """Return the bytes of all results that a plan asks for."""
    return sum(d.value.spec.nbytes for d in plan.decisions if d.computed and d.value is not None)


def announcement(budget: Budget, cluster: str | None = None) -> tuple[str, str]:
    """Describe what a merge computes in one line, and in another what it reads and the memory that it takes.

    Args:
        budget: The estimate.
        cluster: The value of ``theta.cluster``.
    """
    names = list(dict.fromkeys(name for name, _ in budget.peaks))
    most = human_bytes(max((nbytes for _, nbytes in budget.peaks), default=0))
    work = f"merging {plural(budget.parameters, 'parameter')} by {listed(budget.methods)}"
    costs = f"{human_bytes(budget.reads)} to read, at most {most} of memory"
    if cluster is not None:
        return f"{work} in jobs on {cluster}", f"{costs} for each"
    costs += " on each" if len(names) > 1 else ""
    if budget.spilled:
        costs += f"; {len(budget.spilled)} on cpu, because they need more memory than the GPUs have"
    return f"{work} on {listed(names)}", costs


def execute(  # noqa: PLR0913 - named, and the last three have defaults
    workspace: Workspace,
    plan: Plan,
    paths: Sequence[str],
    commits: Sequence[str],
    apply: Callable[[Plan, Store, Callable[[], Engine], Callable[[int], None]], _Result],
    *,
    label: str,
    meanwhile: Callable[[Callable[[], _Result]], AbstractContextManager[None]] | None = None,
    adapters: AdapterFiles | None = None,
    draft: Draft | None = None,
) -> _Result:
    """Execute a plan, resuming an interrupted merge.

    The merge is announced before it starts.

    Args:
        workspace: The repository and its store; the results are written to the store.
        plan: The plan.
        paths: Path of the checkpoint. Of a model of several files, its name, and then their paths.
        commits: The commit of each side, as far as it is known.
        apply: Executes the plan, as ``git_theta_ext.merging.apply.apply`` does.
        label: What the progress is labelled with.
        meanwhile: Entered while values are computed, with a function that returns the result if they are not.
        adapters: The adapter configurations of the sides; None to read them from the commits.
        draft: Takes the results; if jobs merge, none.

    Raises:
        ConfigError: There is no such device.
        ThetaError: See ``git_theta_ext.merging.apply.apply``.
    """
    elsewhere = workspace.settings.cluster_remote is not None
    inputs = gather_inputs(workspace, plan, paths, commits, adapters, elsewhere=elsewhere)
    store = workspace.store
    # What is merged together with other files is durable only when all are merged.
    journal = Journal(inputs.journal, kept=not store.is_holding)

    def announce(budget: Budget) -> None:
        for line in announcement(budget, workspace.settings.cluster):
            workspace.reporter.note(f"{shown_path(paths[0])}: {line}")

    with ExitStack() as stack:

        def start() -> Engine:
            if workspace.settings.cluster is None:
                return engine(store, inputs.device, journal, inputs.statistics, advance, announce, draft)
            from git_theta_ext.operations.merge.distribution import distributed_engine

            return stack.enter_context(distributed_engine(workspace, inputs, journal, advance, announce))

        if meanwhile is not None and any(decision.computed for decision in inputs.plan.decisions):
            stack.enter_context(
                meanwhile(lambda: apply(inputs.plan.postponed(_INTERRUPTED), store, start, no_progress))
            )
        advance = stack.enter_context(workspace.reporter.progress(label, bytes_to_compute(inputs.plan)))
        outcome = apply(inputs.plan, store, start, advance)
    journal.done()
    return replace(outcome, notes=(*outcome.notes, *inputs.notes), unread=_unread(store, inputs, outcome.failed))


def _unread(store: Store, inputs: MergeInputs, failed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parameters that failed, if a value that the plan reads is missing or damaged.

    All of them: a value that cannot be read can keep a threshold from being found for other parameters.
    """
    if not failed:
        return ()
    read = digests_of(tasks_of(inputs.plan.decisions, inputs.statistics)).union(inputs.plan.reads())
    return failed if store.touch_and_find_missing(read) else ()


def engine(  # noqa: PLR0913, PLR0917 - as Engine
    store: Store,
    device: str,
    journal: Journal | None = None,
    statistics: Statistics | None = None,
    advance: Callable[[int], None] = no_progress,
    announce: Callable[[Budget], None] | None = None,
    draft: Draft | None = None,
) -> Engine:
    """Return an engine for the devices that a value of ``theta.merge.device`` names.

    Raises:
        ConfigError: There is no such device.
        LibraryError: Torch is not installed.
    """
    from git_theta_ext.merging.devices.open import open_devices
    from git_theta_ext.merging.execution.engine import Engine

    keep_freed_memory(LARGEST_KEPT)
    return Engine(store, partial(open_devices, device), journal, statistics, advance, announce=announce, draft=draft)
