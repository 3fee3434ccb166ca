"""Show how parameters changed between commits, the index and the work tree.

Takes revisions and paths as git diff does. A model of several files is compared as one, so a parameter that another
file of the model holds is moved, and not removed and added.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.pager import paged
from git_theta_ext.cli.parser import RevisionsAndPaths
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.comparison.markdown import render_markdown
from git_theta_ext.comparison.schema import to_json
from git_theta_ext.comparison.stat import render_stat
from git_theta_ext.comparison.text import render
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import LimitError, MissingError, ThetaError, UsageError
from git_theta_ext.git.raw_diff import Compared
from git_theta_ext.operations.diff.models import diff_models
from git_theta_ext.operations.diff.selection import Selection
from git_theta_ext.operations.filter.written_files import finish_written_files
from git_theta_ext.util.text import printable, shortlist

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.cli.output import Output
    from git_theta_ext.comparison.changes import ModelChange, ParameterChange
    from git_theta_ext.comparison.limits import Limit
    from git_theta_ext.comparison.screen import Screen
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta diff v1..v2 -- run/"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "words",
        metavar="REV|PATH",
        nargs="*",
        action=RevisionsAndPaths,
        help="revisions as in git diff (A, A B, A..B, A...B; default: the index and the work tree), then files, "
        "directories or quoted patterns; -- separates them",
    )
    parser.add_argument(
        "--cached", "--staged", action="store_true", help="compare the index with a commit; default: HEAD"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if there are differences, as --quiet always does"
    )
    parser.add_argument(
        "--param", metavar="GLOB", action="append", default=[], help="only parameters of that name; can be repeated"
    )
    parser.add_argument(
        "--atol",
        metavar="X",
        type=_tolerance,
        default=0.0,
        help="parameters of which no element changed by more count as unchanged",
    )
    parser.add_argument(
        "--fail-if",
        metavar="LIMIT",
        action="append",
        default=[],
        help="exit with 17 if a change exceeds a limit such as 'rel_change > 0.05'; can be repeated",
    )
    parser.add_argument(
        "--structure",
        action="store_true",
        help="show only which parameters differ, and read no values to compare these",
    )
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--stat", dest="view", action="store_const", const="stat", help="one line with a bar for similar parameters"
    )
    views.add_argument(
        "--full", dest="view", action="store_const", const="full", help="every parameter, with all numbers"
    )
    views.add_argument(
        "--markdown", dest="view", action="store_const", const="markdown", help="tables for a pull request's comment"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write the differences as a web page")
    add_options(parser)


def _tolerance(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Show differences."""
    limits = _limits(args)
    with suppress(ThetaError):  # files are compared by their content until the next command tries again
        finish_written_files(workspace)
    compared = Compared.of(workspace.repo, args.words, args.paths, cached=args.cached)
    diffs, unmerged = diff_models(workspace, compared, _selection(output, args, limits))
    if args.html is not None:
        _write_page(args, diffs)
    exceeded = [(limit, _exceeding(limit, diffs)) for limit in limits]
    if output.mode == "human":
        screen = screen_of(workspace.repo)
        with paged(workspace.repo, "diff"):
            sys.stdout.writelines(_text(screen, args.view, diffs, unmerged))
    else:
        failed = [
            {"limit": limit.text, "exceeded": [{"path": path, "name": change.name} for path, change in changes]}
            for limit, changes in exceeded
        ]
        models = [to_json(diff) for diff in diffs]
        output.result({"models": models, "unmerged": list(unmerged), "limits": failed}, [])
    _check(args, exceeded, diffs)
    return int((args.exit_code or output.mode == "quiet") and bool(diffs or unmerged))


def _limits(args: argparse.Namespace) -> list[Limit]:
    if not args.fail_if:
        return []
    from git_theta_ext.comparison.limits import parse_limit  # other diffs start without it

    return [parse_limit(text) for text in args.fail_if]


def _selection(output: Output, args: argparse.Namespace, limits: list[Limit]) -> Selection:
    needs = args.atol or args.html is not None or any(limit.measured for limit in limits)
    if args.structure and (args.atol or any(limit.measured for limit in limits)):
        raise UsageError(
            "--structure reads no values, which --atol and limits on numbers need", hint="git theta diff -h"
        )
    unseen = output.mode == "quiet" and not needs
    return Selection(tuple(args.param), args.atol, numbers=not (args.structure or unseen))


def _write_page(args: argparse.Namespace, diffs: list[ModelChange]) -> None:
    from git_theta_ext.cli.render.pages import write_page
    from git_theta_ext.comparison.page import diff_page

    write_page(args.html, diff_page(" ".join(_command(args)), diffs))


def _command(args: argparse.Namespace, *options: str) -> list[str]:
    """Return the words of the command that compares the same parameters of the same versions."""
    chosen = [*(["--cached"] if args.cached else []), *(f"--param={pattern}" for pattern in args.param)]
    paths = ["--", *args.paths] if args.paths else []
    return ["git", "theta", "diff", *chosen, *args.words, *options, *paths]


def _text(screen: Screen, view: str | None, diffs: list[ModelChange], unmerged: tuple[str, ...]) -> Iterator[str]:
    if view == "markdown":
        yield render_markdown(diffs, unmerged)
        return
    for path in unmerged:
        yield f"* Unmerged path {printable(path)}\n"
    for diff in diffs:
        yield render_stat(diff, screen) if view == "stat" else render(diff, screen, full=view == "full")


def _exceeding(limit: Limit, diffs: list[ModelChange]) -> list[tuple[str, ParameterChange]]:
    return [(diff.path, change) for diff in diffs for change in diff.changes if limit.exceeded_by(change)]


def _check(
    args: argparse.Namespace,
    exceeded: list[tuple[Limit, list[tuple[str, ParameterChange]]]],
    diffs: list[ModelChange],
) -> None:
    """Raise an error if a limit is exceeded, or if that is not known."""
    for limit, changes in exceeded:
        if changes:
            names = shortlist([change.name for _, change in changes])
            raise LimitError(
                f"{plural(len(changes), 'change')} with {limit.text}: {names}",
                hint=shlex.join(_command(args, "--full")),
            )
    unknown = sum(change.unavailable for diff in diffs for change in diff.changes)
    if unknown and any(limit.measured for limit, _ in exceeded):
        what = "1 changed parameter is" if unknown == 1 else f"{unknown} changed parameters are"
        raise MissingError(
            f"the limits cannot be checked: the values of {what} not in this repository", hint="git theta fetch --all"
        )
