"""Show how far each group of parameters moved from one commit to another, version by version.

How far is the norm of the difference from the first version over the norm of the first version. Of merges, only the
first parent is followed. Reads the values of all parameters that changed.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.pager import paged
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.cli.render.history import cut
from git_theta_ext.cli.revisions import add_model, chosen_parameters
from git_theta_ext.comparison.distance import number
from git_theta_ext.comparison.group import Item, fold
from git_theta_ext.comparison.words import plural, shorten
from git_theta_ext.errors import UsageError
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.operations.history.drift import measure_drift
from git_theta_ext.operations.history.words import SHORT
from git_theta_ext.operations.model_names import find_version, typed_version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.comparison.screen import Screen
    from git_theta_ext.operations.history.drift import Drift
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta drift v1..main -- run/"

_MOST_ROWS, _MOST_VERSIONS = 16, 24
_OTHER_COLUMNS, _LEAST_LABEL = 24, 24
_BARS = "▁▂▃▄▅▆▇█"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "-n",
        "--versions",
        metavar="N",
        type=int,
        default=_MOST_VERSIONS,
        help=f"measure at most N versions, spread evenly (default: {_MOST_VERSIONS})",
    )
    add_model(
        parser,
        "REV..REV|PATH",
        "first and last commit (REV.. and REV mean REV..HEAD), then a checkpoint or a directory with a model",
    )


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Show how far parameters moved."""
    repo = workspace.repo
    words = [*args.words, *(args.paths or ())]
    if len(words) != 2 or args.versions < 1:  # noqa: PLR2004 - commits and a path
        raise UsageError("expected two commits, a path, and at least one version", hint="git theta drift -h")
    first, _, last = words[0].partition("..")
    name = typed_version(repo, [last or "HEAD"], [words[1]], hint="git theta drift -h")
    version = find_version(repo, name, command=f"git theta drift {words[0]} -- {{}}")
    ends = (commit_id(repo, first or "HEAD"), commit_id(repo, last or "HEAD"))
    files = {path: entry.oid for path in version.shards if (entry := repo.entry(ends[1], path)) is not None}
    drift = measure_drift(workspace, ends, files, args.versions, chosen_parameters(args.param))
    if output.mode == "human":
        screen = screen_of(repo)
        with paged(repo, "log"):
            sys.stdout.writelines(f"{line}\n" for line in _text(drift, screen, 0 if args.full else _MOST_ROWS))
    else:
        output.result(_data(drift), [])
    return 0


def _text(drift: Drift, screen: Screen, most: int) -> Iterator[str]:
    oldest, newest = (oid[:SHORT] for oid in (drift.origin, drift.commits[-1].oid))
    left_out = f", {drift.left_out} others left out" if drift.left_out else ""
    yield f"{plural(len(drift.commits), 'version')} after {oldest}, up to {newest}{left_out}"
    rows = fold([Item("~", name, "") for name in sorted(drift.moved)], most)
    series = {row.label: drift.relative([item.name for item in row.items]) for row in rows}
    label = max(map(len, series), default=0)
    if screen.width:
        label = min(label, max(_LEAST_LABEL, screen.width - _OTHER_COLUMNS - len(drift.commits)))
    for row in sorted(rows, key=lambda row: -(series[row.label][-1] or 0.0)):
        values = series[row.label]
        last = "-" if values[-1] is None else f"{values[-1]:.1e}"
        text = f"{shorten(row.label, label):{label}} {len(row.items):4}  moved {last:7}  {_sparkline(values)}"
        yield cut(text, screen.width)
    yield from (cut(note, screen.width) for note in drift.notes)


def _sparkline(values: Sequence[float | None]) -> str:
    """Return one bar for each value, of which the largest is full; a blank if it is unknown."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    top = max(finite, default=0.0)
    return "".join(
        " " if value is None else "!" if not math.isfinite(value) else _BARS[round(value / top * 7) if top else 0]
        for value in values
    )


def _data(drift: Drift) -> dict[str, Any]:
    return {
        "from": drift.origin,
        "versions": [
            {"commit": commit.oid, "date": commit.date, "subject": commit.subject} for commit in drift.commits
        ],
        "left_out": drift.left_out,
        "parameters": [
            {
                "name": name,
                "norm": number(drift.start[name]),
                "relative": [None if value is None else number(value) for value in drift.relative([name])],
            }
            for name in sorted(drift.moved)
        ],
        "notes": list(drift.notes),
    }
