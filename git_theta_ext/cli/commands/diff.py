"""Show how parameters changed between commits, the index and the work tree.

Takes revisions and paths as git diff does. A model of several files is compared as one, so a parameter that another
file of the model holds is moved, and not removed and added.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.parser import RevisionsAndPaths
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.diff.page import diff_page
from git_theta_ext.diff.schema import to_json
from git_theta_ext.diff.text import render
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.raw_diff import Compared
from git_theta_ext.operations.diff.models import diff_models
from git_theta_ext.operations.filter.written_files import finish_written_files
from git_theta_ext.util.files import reporting_os_errors, writing_output
from git_theta_ext.util.text import printable
from git_theta_ext.webpage.render import render as page_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from git_theta_ext.cli.output import Output
    from git_theta_ext.diff.changes import ModelChange
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
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write the differences as a web page")
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Show differences."""
    with suppress(ThetaError):  # files are compared by their content until the next command tries again
        finish_written_files(workspace)
    compared = Compared.of(workspace.repo, args.words, args.paths, cached=args.cached)
    diffs, unmerged = diff_models(workspace, compared)
    if args.html is not None:
        title = " ".join(["git theta diff", *args.words, *(["--", *args.paths] if args.paths else [])])
        with reporting_os_errors(args.html), writing_output(args.html) as page:
            page.write_text(page_of(diff_page(title, diffs)), encoding="utf-8")
    if output.mode == "human":
        sys.stdout.writelines(_text(workspace, diffs, unmerged))
    else:
        output.result({"models": [to_json(diff) for diff in diffs], "unmerged": list(unmerged)}, [])
    return int((args.exit_code or output.mode == "quiet") and bool(diffs or unmerged))


def _text(workspace: Workspace, diffs: list[ModelChange], unmerged: tuple[str, ...]) -> Iterator[str]:
    screen = screen_of(workspace.repo)
    for path in unmerged:
        yield f"* Unmerged path {printable(path)}\n"
    for diff in diffs:
        yield render(diff, screen)
