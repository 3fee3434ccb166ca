"""The candidates of a search as a web page: the score against every option."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.cli.render.search import settings
from git_theta_ext.webpage.blocks import Page, Point, Scatter, Section, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.operations.search.request import Request
    from git_theta_ext.operations.search.run import SearchResult
    from git_theta_ext.operations.search.trials import Tried
    from git_theta_ext.webpage.blocks import Block

_ABOUT = (
    "Each point is a candidate: a merge that was made on trial and evaluated. The best one is marked.",
    "The line in a plot is the score of the current branch before the merge.",
)
_MOST_ROWS = 2000


def search_page(request: Request, result: SearchResult) -> Page:
    """Return the candidates of a search as a page."""
    scored = [tried for tried in result.tried if tried.evaluated.score is not None]
    order = "highest" if request.maximize else "lowest"
    counts = f"{len(result.tried) - 1} candidates, {len(result.tried) - len(scored)} without a score."
    blocks: list[Block] = [*_plots(scored, result), _table(result.tried)]
    return Page("Search of a merge", _ABOUT, [Section(request.model, [f"{counts} The {order} score is best."], blocks)])


def _plots(scored: Sequence[Tried], result: SearchResult) -> Iterator[Scatter]:
    numbers = {id(tried): float(number) for number, tried in enumerate(result.tried)}
    yield _plot("Score in the order of the search", "candidate", [(numbers[id(one)], one) for one in scored], result)
    counts = [(float(len(one.candidate.branches)), one) for one in scored]
    if len({count for count, _ in counts if count}) > 1:
        yield _plot("Score by number of branches", "branches", counts, result)
    methods = dict.fromkeys(settings(one.candidate).get("method") for one in scored)
    for method in filter(None, methods):
        own = [one for one in scored if settings(one.candidate).get("method") == method]
        for option in dict.fromkeys(name for one in own for name in settings(one.candidate)):
            points = []
            for one in own:
                with suppress(ValueError, KeyError):
                    points.append((float(settings(one.candidate)[option]), one))
            if len({x for x, _ in points}) > 1:
                yield _plot(f"Score by {option} of {method}", option, points, result)


def _plot(title: str, option: str, points: Sequence[tuple[float, Tried]], result: SearchResult) -> Scatter:
    drawn = [
        Point(x, one.evaluated.score, f"{one.evaluated.score:g}: {one.candidate.text}", marked=one is result.best)
        for x, one in points
        if one.evaluated.score is not None
    ]
    return Scatter(title, option, "score", drawn, result.baseline.evaluated.score)


def _table(tried: Sequence[Tried]) -> Table:
    rows = []
    for number, one in enumerate(tried[:_MOST_ROWS]):
        score = "" if one.evaluated.score is None else f"{one.evaluated.score:g}"
        branches, seconds = ", ".join(one.candidate.branches), f"{one.evaluated.seconds:.1f}"
        rows.append([one.candidate.text, branches, score, seconds, str(number), one.evaluated.error])
    more = len(tried) - _MOST_ROWS
    left_out = f"{more} more are in the output of --csv and --json." if more > 0 else ""
    columns = ["merge", "branches", "score", "seconds", "candidate", "error"]
    return Table("Candidates", columns, rows, {}, left_out)
