"""The order in which a search tries candidates.

A search is a generator: it yields candidates that can be evaluated at the same time, and gets their scores, of which
higher ones are better. It depends on nothing but these, so a search that was killed goes on where it was if the scores
that are known are sent again.
"""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.search.space import Candidate, Sides

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from git_theta_ext.merging.search.space import Entry, Problem, Space

Scores = list[float | None]
"""The score of each candidate, in their order; None for one that failed."""

MOST_CANDIDATES = 10_000
"""The maximum number of candidates of a grid."""


def candidates(space: Space, branches: Sequence[str], *, own: bool) -> Generator[list[Candidate], Scores, None]:
    """Yield batches of candidates, and take their scores.

    Args:
        space: What is tried.
        branches: The branches that can be merged.
        own: Whether the current branch has changes of its own.

    Raises:
        MergeError: A grid has too many candidates.
        LibraryError: ``cma`` is not installed.
    """
    chosen = tuple(branches)
    if space.greedy:
        chosen = yield from _greedy(space.entries[0], branches, own=own)
    if not chosen:
        return
    sides = Sides(len(chosen) + 1, own)
    problems = [problem for entry in space.entries for problem in entry.problems(sides)]
    if space.how == "grid":
        yield _grid(problems, chosen)
    elif space.how == "random":
        yield _random(problems, chosen, space)
    else:
        from git_theta_ext.merging.search.evolution import evolution

        yield from evolution(problems, chosen, space)


def first_candidates(space: Space, branches: Sequence[str], *, own: bool) -> tuple[list[Candidate], bool]:
    """Return the candidates that do not depend on scores, and whether these are all.

    Args:
        space: What is tried.
        branches: The branches that can be merged.
        own: Whether the current branch has changes of its own.

    Raises:
        MergeError: A grid has too many candidates.
        LibraryError: ``cma`` is not installed.
    """
    found = next(candidates(space, branches, own=own), [])
    return found, not space.greedy and space.how != "evolution"


def _greedy(entry: Entry, branches: Sequence[str], *, own: bool) -> Generator[list[Candidate], Scores, tuple[str, ...]]:
    """Choose branches as in greedy soups (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482).

    They are added in the order of their own scores, and kept if the score does not become lower. All of them together
    are chosen if they score better: branches that are of little use alone may complete each other.
    """
    alone = [_first(entry, [branch], own=own) for branch in branches]
    *scores, together = yield [*alone, _first(entry, branches, own=own)]
    ranked = sorted((-score, number) for number, score in enumerate(scores) if score is not None)
    best, chosen = -math.inf, list[str]()
    for own_score, number in ranked:
        score: float | None = -own_score
        if chosen:
            (score,) = yield [_first(entry, [*chosen, branches[number]], own=own)]
        if score is not None and score >= best:
            best, chosen = score, [*chosen, branches[number]]
    return tuple(branches) if together is not None and together > best else tuple(chosen)


def _first(entry: Entry, branches: Sequence[str], *, own: bool) -> Candidate:
    """Return a merge by an entry with the first of its listed values, and the middle of its ranges."""
    problem = next(entry.problems(Sides(len(branches) + 1, own)))
    candidate = problem.candidate(branches, [0.5] * len(problem.ranges))
    return candidate or Candidate(tuple(branches), (f"method={entry.method}",))


def _grid(problems: Sequence[Problem], branches: Sequence[str]) -> list[Candidate]:
    combined = itertools.chain.from_iterable(_of_grid(problem, branches) for problem in problems)
    found = list(dict.fromkeys(itertools.islice(combined, MOST_CANDIDATES + 1)))
    if len(found) > MOST_CANDIDATES:
        raise MergeError(
            f"the grid has more than {MOST_CANDIDATES} candidates",
            hint="use fewer steps, or search: random; git theta merge --search FILE --dry-run BRANCH ... checks it",
        )
    return found


def _of_grid(problem: Problem, branches: Sequence[str]) -> Iterator[Candidate]:
    shares = ([n / (axis.steps - 1) for n in range(axis.steps)] for axis in problem.ranges)
    for combination in itertools.product(*shares):
        candidate = problem.candidate(branches, combination)
        if candidate is not None:
            yield candidate


def _random(problems: Sequence[Problem], branches: Sequence[str], space: Space) -> list[Candidate]:
    """Draw candidates; what has nothing to draw comes first."""
    fixed = [problem for problem in problems if not problem.ranges]
    found = dict.fromkeys(filter(None, (problem.candidate(branches, []) for problem in fixed)))
    drawn = [problem for problem in problems if problem.ranges]
    generator = random.Random(space.seed)  # noqa: S311 - not for secrets
    for number in range(space.trials - len(found) if drawn else 0):
        problem = drawn[number % len(drawn)]
        candidate = problem.candidate(branches, [generator.random() for _ in problem.ranges])
        if candidate is not None:
            found[candidate] = None
    return list(found)[: space.trials]
