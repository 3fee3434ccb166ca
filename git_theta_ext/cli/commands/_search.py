"""``git theta merge --search``: choose a merge by evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands._yaml import yaml_text
from git_theta_ext.cli.output import output_of
from git_theta_ext.cli.render import search as search_text
from git_theta_ext.cli.render.pages import write_page
from git_theta_ext.cli.render.search_page import search_page
from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.merging.search.file import read_space
from git_theta_ext.merging.search.strategies import first_candidates
from git_theta_ext.operations.search.command import evaluation_command
from git_theta_ext.operations.search.evaluation import Evaluation
from git_theta_ext.operations.search.request import request_of
from git_theta_ext.operations.search.run import search
from git_theta_ext.operations.search.winner import check_ready, merge_best, merge_command
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.files import reporting_os_errors, writing_output
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.merging.search.space import Space
    from git_theta_ext.operations.search.request import Request
    from git_theta_ext.operations.search.run import SearchResult

OPTIONS = ("eval", "score", "timeout", "jobs", "maximize", "minimize", "fresh", "csv", "dry_run")
"""The options that only a search has, as ``argparse`` names them."""

EXAMPLE = "git theta merge --search FILE --eval 'python eval.py {checkpoint}' BRANCH ..."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a search."""
    group = parser.add_argument_group("with --search")
    group.add_argument(
        "--eval",
        metavar="COMMAND",
        help="evaluate a model by this command, in which {checkpoint} is its path; the last line that it prints is the"
        " score; default: theta.merge.evaluate",
    )
    group.add_argument("--score", metavar="KEY", help="key of the score if that line is a JSON object; default: score")
    order = group.add_mutually_exclusive_group()
    order.add_argument("--maximize", action="store_true", help="a higher score is better; the default")
    order.add_argument("--minimize", action="store_true", help="a lower score is better")
    group.add_argument("--timeout", metavar="SECONDS", type=float, help="end an evaluation that takes longer")
    group.add_argument("--jobs", metavar="N", type=int, help="evaluate N models at the same time; default: 1")
    group.add_argument("--fresh", action="store_true", help="evaluate again what an earlier search evaluated")
    group.add_argument("--csv", metavar="FILE", type=Path, help="write the table of candidates as CSV")
    group.add_argument("--dry-run", action="store_true", help="list the candidates, and evaluate and merge nothing")


def run(args: argparse.Namespace) -> int:
    """Search, and merge what is best."""
    output = output_of(args)
    space = _space(args.search)
    with Workspace.discover(output) as workspace:
        worktree_of(workspace.repo)
        if not args.revisions:
            raise UsageError("--search needs the branches to merge", hint=EXAMPLE)
        if args.dry_run and args.eval is None:
            words: tuple[str, ...] = ()
        else:
            words = evaluation_command(workspace.repo, args.eval)
        evaluation = Evaluation(words, args.score or "score", _positive("--timeout", args.timeout))
        places = [os.path.normpath(workspace.repo.prefix + path) for path in args.paths or ()]
        request = request_of(
            workspace,
            space,
            args.revisions,
            evaluation,
            places,
            maximize=not args.minimize,
            jobs=int(_positive("--jobs", args.jobs) or 1),
            fresh=args.fresh,
        )
        if args.dry_run:
            return _listed(output, request)
        check_ready(workspace.repo)
        result = search(workspace, request)
        _write_tables(args, request, result)
        return _merged(output, workspace, request, result)


def _space(file: Path) -> Space:
    return read_space(yaml_text(file, hint="git theta merge -h"), str(file))


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise UsageError(f"{option} must be above 0", hint="git theta merge -h")
    return value


def _listed(output: Output, request: Request) -> int:
    found, complete = first_candidates(request.space, request.branches, own=request.own)
    rest = [] if complete else ["more follow, which depend on the scores of these"]
    output.result(
        {"candidates": [search_text.candidate_to_json(one) for one in found], "complete": complete},
        [*(join(merge_command(one)) for one in found), *rest],
    )
    return 0


def _write_tables(args: argparse.Namespace, request: Request, result: SearchResult) -> None:
    if args.csv is not None:
        with reporting_os_errors(args.csv), writing_output(args.csv) as file:
            file.write_text(search_text.to_csv(result), encoding="utf-8")
    if args.html is not None:
        write_page(args.html, search_page(request, result))


def _merged(output: Output, workspace: Workspace, request: Request, result: SearchResult) -> int:
    """Merge the best candidate, and print the result."""
    best = result.best
    if best is None:
        errors = dict.fromkeys(one.evaluated.error for one in result.tried)
        raise MergeError(f"no candidate could be evaluated: {shortlist(list(errors), 1)}", hint=EXAMPLE)
    commit = None
    if best.candidate.branches:
        commit = merge_best(workspace, request, best.candidate, search_text.record(request, result))
    output.result(search_text.to_json(request, result, commit), search_text.lines(request, result, commit))
    return 0 if commit else 1
