"""Search by CMA-ES, an evolution strategy (Hansen, 2016, https://arxiv.org/abs/1604.00772), with the library ``cma``.

Options are numbers between 0 and 1, the shares of their ranges. A generation is evaluated as a whole, so the number of
processes that evaluate does not change what is tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from git_theta_ext.merging.search.space import Candidate, Problem, Space
    from git_theta_ext.merging.search.strategies import Scores

_START, _STEP = 0.5, 0.3
"""Where a search begins, and its first standard deviation, for which the library asks a third of the range."""


def evolution(
    problems: Sequence[Problem], branches: Sequence[str], space: Space
) -> Generator[list[Candidate], Scores, None]:
    """Yield generations of candidates, and take their scores.

    Each problem with ranges has an equal share of the trials, and at least one generation.

    Args:
        problems: What is tried.
        branches: The branches that are merged.
        space: The number of trials, and the seed.

    Raises:
        LibraryError: ``cma`` is not installed.
    """
    evolving = [problem for problem in problems if problem.ranges]
    fixed = [problem.candidate(branches, []) for problem in problems if not problem.ranges]
    if evolving:
        require("cma", "a search by evolution")
    if first := list(dict.fromkeys(candidate for candidate in fixed if candidate is not None)):
        yield first
    for problem in evolving:
        yield from _evolve(problem, branches, (space.trials - len(first)) // len(evolving), space.seed)


def _evolve(
    problem: Problem, branches: Sequence[str], trials: int, seed: int
) -> Generator[list[Candidate], Scores, None]:
    import cma
    import numpy as np

    generator = np.random.default_rng(seed)
    options = {
        "bounds": [0, 1],
        "seed": float("nan"),  # numpy's global state stays as it is
        "randn": lambda *shape: generator.standard_normal(shape),
        "verbose": -9,
    }
    strategy = cma.CMAEvolutionStrategy([_START] * len(problem.ranges), _STEP, options)
    used = 0
    while not used or used + strategy.popsize <= trials:
        points = strategy.ask()
        used += len(points)
        generation = [problem.candidate(branches, list(map(float, point))) for point in points]
        batch = list(dict.fromkeys(candidate for candidate in generation if candidate is not None))
        scores = dict(zip(batch, (yield batch), strict=True)) if batch else {}
        strategy.tell(points, _ranks([None if candidate is None else scores[candidate] for candidate in generation]))


def _ranks(scores: Scores) -> list[float]:
    """Return the rank of each score, 0 for the best; those without a score are the last ones."""
    order = sorted({score for score in scores if score is not None}, reverse=True)
    places = {score: float(place) for place, score in enumerate(order)}
    return [float(len(order)) if score is None else places[score] for score in scores]
