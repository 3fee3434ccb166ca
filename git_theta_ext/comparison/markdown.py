"""A diff as Markdown, such as for a comment on a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.comparison.group import printable
from git_theta_ext.comparison.numbers import alarm, common, cosine, percent, rank, relative
from git_theta_ext.comparison.text import MOST_LINES, is_opaque, summary, what
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import printable as safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.comparison.changes import GroupChange, ModelChange

_COLUMNS = ("parameters", "type", "change", "rel. change", "cosine", "largest", "elements", "flips", "rank", "NaN, inf")


def render_markdown(changes: Sequence[ModelChange], unmerged: Sequence[str] = ()) -> str:
    """Write diffs as sections with a table each; one sentence if there are none."""
    lines = [line for change in changes for line in _section(change)]
    lines += [f"Unmerged path {_code(shown_path(path))}\n" for path in unmerged]
    return "\n".join(lines or ["No parameters changed.\n"])


def _section(change: ModelChange) -> Iterator[str]:
    yield f"### {_code(change.headline)}\n"
    yield f"{summary(change.diff, _code)}\n"
    groups = [] if is_opaque(change.diff) else change.groups(MOST_LINES)
    if groups:
        yield _row(_COLUMNS)
        yield _row(["---"] * len(_COLUMNS))
        yield from (_row(_cells(group)) for group in groups)
        yield ""
    conflicts = [f"{_code(each.name)}: {_code(each.reason.text)}" for each in change.diff.conflicts]
    items = [*conflicts, *map(_code, change.notes)]
    if items:
        yield from (f"- {item}" for item in items)
        yield ""


def _cells(group: GroupChange) -> list[str]:
    near = group.distance
    rows = f" (numbers of {rows})" if (rows := common(group)) else ""
    first = [_code(group.label), _code(group.spec) if group.spec else "", _code(what(group)) + rows]
    if near is None:
        return [*first, *[""] * (len(_COLUMNS) - len(first))]
    largest = "" if near.largest is None else f"{near.largest:.1e}"
    return [
        *first,
        relative(group),
        cosine(near),
        largest,
        percent(near.share),
        str(near.flips) if near.norm is not None else "",
        rank(group),
        alarm(near),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Return text that Markdown shows as it is, in a table, too."""
    plain = safe(printable(text)).replace("|", r"\|")
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence, space = "`" * (longest + 1), " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return f"{fence}{space}{plain}{space}{fence}"
