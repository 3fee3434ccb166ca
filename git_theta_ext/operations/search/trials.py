"""Make candidates on trial, and evaluate several at the same time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import MergeError, ThetaError
from git_theta_ext.merging.planning.plan import conflicts
from git_theta_ext.operations.merge.branches import merge_of_branches
from git_theta_ext.operations.merge.trial import trials_of
from git_theta_ext.operations.search.evaluation import Evaluated
from git_theta_ext.operations.search.gpu_memory import free_memory, measured_use
from git_theta_ext.operations.search.target import write_model
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.folders import temporary_folder
from git_theta_ext.util.processes import peak_of_children
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from git_theta_ext.merging.search.space import Candidate
    from git_theta_ext.operations.merge.branches import BranchMerge
    from git_theta_ext.operations.search.gpu_memory import GpuUse
    from git_theta_ext.operations.search.request import Request
    from git_theta_ext.operations.search.scores import Scores
    from git_theta_ext.operations.workspace import Workspace

_KIB = 1024


@dataclass(frozen=True)
class Tried:
    """A candidate and its result.

    Attributes:
        candidate: The candidate.
        evaluated: The result.
        known: Whether it was known from an earlier run.
    """

    candidate: Candidate
    evaluated: Evaluated
    known: bool = False


class Evaluations:
    """Makes candidates in this thread, and evaluates them in others; no more than may run exist at a time."""

    def __init__(self, workspace: Workspace, request: Request, scores: Scores) -> None:
        self._workspace = workspace
        self._request = request
        self._scores = scores
        self._merges: dict[tuple[str, ...], BranchMerge] = {}
        self._gpu_use: GpuUse | None = None
        self._executor = ThreadPoolExecutor(request.jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._request.evaluation.stop()
        self._executor.shutdown(cancel_futures=kind is not None)

    def batch(self, batch: Sequence[Candidate], advance: Callable[[int], None]) -> dict[Candidate, Tried]:
        """Evaluate candidates, and return their results in the same order."""
        results: dict[Candidate, Tried] = {}
        first = next((one for one in batch if self._scores.get(self._request.digest(one)) is None), None)
        if self._request.jobs > 1 and self._gpu_use is None and first is not None and free_memory():
            with measured_use() as self._gpu_use:  # of one evaluation by itself
                results = self._evaluate([first], advance, 1)
        rest = [candidate for candidate in batch if candidate not in results]
        results |= self._evaluate(rest, advance, self._allowed())
        return {candidate: results[candidate] for candidate in batch}

    def _evaluate(
        self, batch: Sequence[Candidate], advance: Callable[[int], None], jobs: int
    ) -> dict[Candidate, Tried]:
        slots = BoundedSemaphore(jobs)
        running: dict[Candidate, Future[Tried]] = {}

        def done(_: Future[Tried]) -> None:
            slots.release()
            advance(1)

        for candidate in batch:
            digest = self._request.digest(candidate)
            known = self._scores.get(digest)
            if known is not None:
                running[candidate] = _done(Tried(candidate, known, known=True))
                advance(1)
                continue
            slots.acquire()
            running[candidate] = self._started(candidate, digest)
            running[candidate].add_done_callback(done)
        return {candidate: future.result() for candidate, future in running.items()}

    def _started(self, candidate: Candidate, digest: str) -> Future[Tried]:
        """Make a candidate, and start its evaluation."""
        parent = self._workspace.repo.theta_dir / "tmp"
        with ExitStack() as stack:
            with reporting_os_errors(parent):
                parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(temporary_folder(parent))
            try:
                place = self._made(candidate, folder)
            except ThetaError as error:
                failed = Evaluated(None, error.message)
                self._scores.add(digest, candidate, failed)
                return _done(Tried(candidate, failed))
            return self._executor.submit(self._evaluated, candidate, digest, place, stack.pop_all())
        raise AssertionError  # the stack suppresses nothing

    def _evaluated(self, candidate: Candidate, digest: str, place: Path, stack: ExitStack) -> Tried:
        with stack:
            evaluated = self._request.evaluation.run(place)
        self._scores.add(digest, candidate, evaluated)
        return Tried(candidate, evaluated)

    def _made(self, candidate: Candidate, folder: Path) -> Path:
        """Write a candidate below a directory, and return what to evaluate."""
        request, workspace = self._request, self._workspace
        if not candidate.branches:
            return write_model(workspace, request.heads[0], request.model, {}, folder)
        merge = self._merge(candidate.branches)
        with trials_of(workspace, merge) as trials:
            plan = trials.plan(candidate.words)
            others = [name for name, one in plan.plans.items() if name != request.model and conflicts(one)]
            if conflicting := [*merge.conflicts, *others]:
                raise MergeError(f"conflicts in {shortlist(map(shown_path, conflicting))}")
            trial = trials.make(plan.only(request.model))
            if trial.conflicts:
                raise MergeError(plural(trial.conflicts, "conflict"))
            merged = trial.models[request.model].files if request.model in trial.models else {}
            return write_model(trial.workspace, merge.tree, request.model, merged, folder)

    def _merge(self, branches: tuple[str, ...]) -> BranchMerge:
        if branches not in self._merges:
            commits = dict(zip(self._request.branches, self._request.heads[1:], strict=True))
            self._merges.clear()  # the next candidates have the same branches
            self._merges[branches] = merge_of_branches(self._workspace.repo, [commits[branch] for branch in branches])
        return self._merges[branches]

    def _allowed(self) -> int:
        """Return how many evaluations may run at the same time, judging by the memory that the earlier ones took."""
        jobs = self._request.jobs
        if jobs == 1:
            return 1
        peak = peak_of_children()
        available = _available_memory()
        bounds = [] if available is None or not peak else [(available // peak, peak, available, "memory")]
        if self._gpu_use is not None and (gpu := self._gpu_use.allowed()) is not None:
            bounds.append((*gpu, "memory of a GPU"))
        allowed, taken, free, kind = min(bounds, default=(jobs, 0, 0, ""))
        if allowed >= jobs:
            return jobs
        allowed = max(1, allowed)
        self._workspace.reporter.note(
            f"an evaluation takes {human_bytes(taken)} of {kind}, and {human_bytes(free)} are available: at most"
            f" {allowed} run at the same time"
        )
        return allowed


def _done(tried: Tried) -> Future[Tried]:
    future: Future[Tried] = Future()
    future.set_result(tried)
    return future


def _available_memory() -> int | None:
    """Return the bytes that programs can allocate without swapping (proc(5)); None if it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * _KIB if sizes else None
