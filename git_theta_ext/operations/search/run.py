"""Search a merge by the scores of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.search.space import Candidate
from git_theta_ext.merging.search.strategies import candidates
from git_theta_ext.operations.search.scores import Scores
from git_theta_ext.operations.search.trials import Evaluations, Tried
from git_theta_ext.records import dataclass
from git_theta_ext.util.signals import unwinding_signals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.operations.search.request import Request
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class SearchResult:
    """The results of a search.

    Attributes:
        tried: All candidates, in the order in which they were tried; the first one is the current branch as it is.
        best: The one with the best score; None if all failed. Of equal ones the first.
    """

    tried: tuple[Tried, ...]
    best: Tried | None

    @property
    def baseline(self) -> Tried:
        """The current branch as it is."""
        return self.tried[0]


def search(workspace: Workspace, request: Request) -> SearchResult:
    """Evaluate candidates until the search ends. The index, the work tree and the store do not change.

    A candidate that cannot be merged or evaluated is recorded, and the search goes on. Scores are remembered at once,
    so a search that is killed goes on where it was.

    Args:
        workspace: The repository and its store.
        request: What is searched.

    Raises:
        MergeError: A grid has too many candidates.
        LibraryError: A library is not installed.
        StoreError: Scores cannot be written.
    """
    scores = Scores(workspace.repo.git_dir / "theta" / "search" / "scores.jsonl", fresh=request.fresh)
    tried: dict[Candidate, Tried] = {}
    with (
        unwinding_signals(),  # otherwise evaluations would run on
        workspace.reporter.progress("candidates", counted=True) as advance,
        Evaluations(workspace, request, scores) as run,
    ):
        advance.expect(1)
        tried |= run.batch([Candidate(())], advance)
        batches = candidates(request.space, request.branches, own=request.own)
        batch = next(batches, None)
        while batch is not None:
            fresh = [candidate for candidate in dict.fromkeys(batch) if candidate not in tried]
            advance.expect(len(fresh))
            tried |= run.batch(fresh, advance)
            sign = 1 if request.maximize else -1
            known = [tried[candidate].evaluated.score for candidate in batch]
            try:
                batch = batches.send([None if score is None else sign * score for score in known])
            except StopIteration:
                batch = None
    return SearchResult(tuple(tried.values()), _best(tried.values(), maximize=request.maximize))


def _best(tried: Iterable[Tried], *, maximize: bool) -> Tried | None:
    sign = 1 if maximize else -1
    scored = [(sign * one.evaluated.score, one) for one in tried if one.evaluated.score is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None
