"""Execute the plan of a merge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.diff.words import human_bytes, plural
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution.tasks import digests_of, tasks_of
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.util.libraries import absent, is_installed
from git_theta_ext.util.threads import LARGEST_KEPT, keep_freed_memory, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.merging.apply import Outcome
    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.execution.journal import Journal
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.execution.tasks import Statistics
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.merge.inputs import MergeInputs
    from git_theta_ext.store.store import Store
    from git_theta_ext.util.reporter import Reporter


def bytes_to_compute(plan: Plan) -> int:
    """Return the bytes of all results that a plan asks for."""
    return sum(d.value.spec.nbytes for d in plan.decisions if d.computed and d.value is not None)


def announcement(budget: Budget) -> str:
    """Describe in one line what a merge computes, and the memory that it takes."""
    names = list(dict.fromkeys(name for name, _ in budget.peaks))
    most = human_bytes(max((nbytes for _, nbytes in budget.peaks), default=0))
    text = f"merging {plural(budget.parameters, 'parameter')} ({human_bytes(budget.reads)} to read)"
    text += f" by {_listed(budget.methods)} on {_listed(names)}, at most {most} of memory"
    text += " there each" if len(names) > 1 else ""
    return text + (f"; {len(budget.spilled)} on cpu, for lack of memory elsewhere" if budget.spilled else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def merge(store: Store, inputs: MergeInputs, reporter: Reporter, advance: Callable[[int], None]) -> Outcome:
    """Execute a plan, resuming an interrupted merge.

    The merge is announced before it starts.

    Args:
        store: The store with the values; the results are written to it.
        inputs: The inputs of the merge.
        reporter: Shows messages to the user.
        advance: Called with the size in bytes of each tensor that is done.

    Raises:
        ConfigError: There is no such device.
        ThetaError: See ``git_theta_ext.merging.apply.apply``.
    """
    from git_theta_ext.merging.execution.journal import Journal

    def announce(budget: Budget) -> None:
        reporter.note(f"{inputs.path}: {announcement(budget)}")

    journal = Journal(inputs.journal)

    def start() -> Engine:
        return engine(store, inputs.device, journal, inputs.statistics, advance, announce)

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


def without_torch(plan: Plan) -> Plan:
    """Return a plan that does not need torch if torch is not installed: parameters to compute are left in conflict."""
    methods = sorted({decision.choice.method for decision in plan.decisions if decision.action == "compute"})
    if not methods or is_installed("torch"):
        return plan
    error = absent("torch", f"merging by {_listed(methods)}")
    postponed = plan.postponed(Reason.of(ConflictCode.FAILED, error.message), exact=False)
    return replace(postponed, notes=(*plan.notes, f"{error.message}: {error.hint}"))


def engine(  # noqa: PLR0913, PLR0917 - as Engine
    store: Store,
    device: str,
    journal: Journal | None = None,
    statistics: Statistics | None = None,
    advance: Callable[[int], None] = no_progress,
    announce: Callable[[Budget], None] | None = None,
) -> Engine:
    """Return an engine for the devices that a value of ``theta.merge.device`` names.

    Raises:
        ConfigError: There is no such device.
        LibraryError: Torch is not installed.
    """
    from git_theta_ext.merging.devices.open import open_devices
    from git_theta_ext.merging.execution.engine import Engine

    keep_freed_memory(LARGEST_KEPT)
    return Engine(store, open_devices(device), journal, statistics, advance, announce=announce)
