"""Preview a merge of models, try several methods, search the best merge, report on one, or compute one again.

To merge, use git merge BRANCH, or git merge -s theta BRANCH ... for several branches at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands import _search
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.parser import RevisionsAndPaths
from git_theta_ext.cli.render import plan as plan_text
from git_theta_ext.cli.render import report as report_text
from git_theta_ext.cli.render import trials as trials_text
from git_theta_ext.cli.render.pages import write_page
from git_theta_ext.cli.render.report_page import report_page
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.merging.planning.plan import conflicts
from git_theta_ext.merging.reporting.report import bytes_to_read, taken
from git_theta_ext.operations.merge.comparison import compared_trials
from git_theta_ext.operations.merge.preview import plan_merge
from git_theta_ext.operations.merge.replay import measure_merge, recorded_merges, replay
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.merge.recorded_merge import Replayed

GROUP = "merge"
EXAMPLE = "git theta merge --plan -X method=ties -X density=0.1 alice bob"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--plan",
        action="store_const",
        dest="action",
        const=_plan,
        help="show what a merge of the branches would do to each parameter, reading few values;"
        " exit code 1 on conflicts",
    )
    modes.add_argument(
        "--replay",
        action="store_const",
        dest="action",
        const=_replay,
        help="compute the merge commit REV again and compare the bits; default: HEAD",
    )
    modes.add_argument(
        "--report",
        action="store_const",
        dest="action",
        const=_report,
        help="show what the merge commit REV did to parameters that several sides changed; default: HEAD",
    )
    modes.add_argument(
        "--try",
        metavar="WORDS",
        dest="tries",
        action="append",
        help="merge with a method and its options, such as 'method=ties density=0.1', and compare the results; repeat"
        " it for each method. Nothing is committed, and the index, the work tree and the store do not change",
    )
    modes.add_argument(
        "--search",
        metavar="FILE",
        type=Path,
        help="merge the branches by what evaluates best: the file says which methods, options and branches to try",
    )
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="with --report and --search: write an HTML page with the results"
    )
    parser.add_argument(
        "revisions",
        metavar="REV",
        nargs="*",
        action=RevisionsAndPaths,
        help="branches to merge, or one merge commit; with --plan, --try and --search, files and directories may follow"
        " after --",
    )
    parser.add_argument(
        "-X",
        dest="words",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="with --plan and --try: option of the merge, as for git merge -s theta",
    )
    _search.add_options(parser)
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Look at a merge, or search one."""
    if args.search is not None:
        if args.words:
            raise UsageError("-X needs --plan or --try; the file of a search names methods and options", hint=EXAMPLE)
        return _search.run(args)
    if unused := [name for name in _search.OPTIONS if getattr(args, name)]:
        raise UsageError(f"--{unused[0].replace('_', '-')} needs --search", hint=_search.EXAMPLE)
    if args.tries:
        args.action = _try
    if args.action is None:
        branches = " ".join(args.revisions) or "BRANCH"
        strategy = "-s theta " if len(args.revisions) > 1 else ""
        raise UsageError(
            "git theta merge does not merge branches; git merge does", hint=f"git merge {strategy}{branches}"
        )
    if args.words and args.action not in {_plan, _try}:
        raise UsageError("-X needs --plan or --try", hint="git theta merge --report HEAD")
    if args.html is not None and args.action is not _report:
        raise UsageError("--html needs --report", hint=f"git theta merge --report --html {shell_word(str(args.html))}")
    if args.paths and args.action not in {_plan, _try}:
        raise UsageError("paths need --plan or --try", hint="git theta merge --plan BRANCH -- PATH")
    output = output_of(args)
    with Workspace.discover(output) as workspace:
        code: int = args.action(output, workspace, args)
    return code


def _plan(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    if not args.revisions:
        raise UsageError("--plan needs the branches to merge", hint=EXAMPLE)
    previews = plan_merge(workspace, args.revisions, args.words, _places(workspace, args))
    lines = [line for path, preview in previews.items() for line in plan_text.lines(path, preview)]
    data = [plan_text.to_json(path, preview) for path, preview in previews.items()]
    output.result({"plans": data}, lines or [_nothing(args)])
    return int(any(conflicts(preview.plan) for preview in previews.values()))


def _places(workspace: Workspace, args: argparse.Namespace) -> list[str]:
    return [os.path.normpath(workspace.repo.prefix + path) for path in args.paths or ()]


def _try(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    if not args.revisions:
        raise UsageError(
            "--try needs the branches to merge", hint="git theta merge --try method=ties --try method=average BRANCH"
        )
    tries = [[*args.words, *words.split()] for words in args.tries]
    compared = list(compared_trials(workspace, args.revisions, tries, _places(workspace, args)))
    lines = trials_text.lines(compared, args.revisions) if compared[0].trial.models else [_nothing(args)]
    output.result({"trials": [trials_text.to_json(trial) for trial in compared]}, lines)
    return int(all(trial.trial.conflicts for trial in compared))


def _nothing(args: argparse.Namespace) -> str:
    where = f" in {shortlist(args.paths)}" if args.paths else ""
    return f"no checkpoint{where} was changed on more than one side"


def _replay(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    commit = _single(args.revisions)
    replays = [replay(workspace, merge) for merge in recorded_merges(workspace, commit)]
    output.result(
        {"replays": [{"path": r.path, "computed": r.computed, "differing": list(r.differing)} for r in replays]},
        [
            f"{shown_path(r.path)}: {plural(r.computed, 'parameter')} computed again, identical to {commit}"
            for r in replays
            if not r.differing
        ],
    )
    for result in replays:
        if result.differing:
            raise _differs(commit, result)
    return 0


def _differs(commit: str, result: Replayed) -> MergeError:
    names = [name or "the file's layout" for name in result.differing]
    hint = "the file was changed before the merge was committed, or the record is that of another merge"
    if result.inexact:
        hint = f"{' and '.join(result.inexact)} can round differently on another machine or device"
    return MergeError(
        f"{shown_path(result.path)}: {plural(len(names), 'parameter')} differ from {commit}: {shortlist(names)}",
        hint=hint,
    )


def _single(revisions: Sequence[str]) -> str:
    if len(revisions) > 1:
        raise UsageError(f"expected one commit, not {len(revisions)}", hint="git theta merge --report HEAD")
    return next(iter(revisions), "HEAD")


def _report(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    commit = _single(args.revisions)
    reports = []
    for merge in recorded_merges(workspace, commit):
        with output.progress(f"measuring {shown_path(merge.record.path)}", bytes_to_read(merge.plan)) as advance:
            rows = measure_merge(workspace, merge, advance)
        about = {"path": merge.record.path, "commit": merge.commit, **merge.record.rules.to_dict()}
        reports.append((about | {"taken": taken(merge.plan)}, report_text.grouped(rows)))
    if args.html is not None:
        write_page(args.html, report_page(reports))
    output.result(
        {"reports": [report_text.to_json(about, groups) for about, groups in reports]},
        [line for about, groups in reports for line in report_text.text(about, groups)],
    )
    return 0
