"""List the commits that changed parameters, and which parameters these are.

Takes revisions, paths and options that select commits as git log does. Of a merge, lists the parameters whose value no
parent has, and how they were merged if the commit says so. Reads no values unless --numbers asks for these.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.pager import paged
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.cli.render.history import details, headline
from git_theta_ext.cli.revisions import add_parameters, add_revisions, chosen_parameters, selected
from git_theta_ext.errors import UsageError
from git_theta_ext.git.commit_log import read_log
from git_theta_ext.operations.history.changes import RECORD, model_changes
from git_theta_ext.operations.history.schema import commit_data
from git_theta_ext.records import replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.cli.revisions import Selected
    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.comparison.screen import Screen
    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.history.changes import ChangedModel, CommitChanges
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta log --param 'model.layers.7.**' main -- run/"

_EDGES, _NARROW = 6, 40  # columns
_WALKS = ("--all", "--first-parent")
"""Options that say which commits are parents; others only leave commits out."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_revisions(parser)
    add_parameters(parser)
    parser.add_argument(
        "--numbers", action="store_true", help="also show how far parameters moved, which takes reading their values"
    )
    parser.add_argument(
        "--follow", action="store_true", help="list the history of files beyond renames, also of directories"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write the history as a web page")
    parser.add_argument("--graph", action="store_true", help="draw branches and merges beside the commits")
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """List commits."""
    chosen = selected(workspace.repo, args)
    subset = bool(args.param or args.follow)
    changes = model_changes(workspace, _commits(workspace.repo, chosen, args), chosen_parameters(args.param))
    if subset or not args.graph:
        changes = islice(changes, chosen.most)
    numbers = _measures(workspace) if args.numbers else None
    if args.html is not None:
        from git_theta_ext.cli.render.pages import write_page  # other output starts faster without it
        from git_theta_ext.operations.history.page import history_page

        found = list(changes)
        write_page(args.html, history_page(" ".join(["git theta log", *chosen.words]), found[: chosen.most], numbers))
        changes = iter(found)
    if output.mode != "human":
        output.result({"commits": [commit_data(each, numbers) for each in changes]}, [])
        return 0
    screen = screen_of(workspace.repo)
    with paged(workspace.repo, "log"):
        if args.graph:
            draw = _subset if subset else _graph
            sys.stdout.writelines(f"{line}\n" for line in draw(workspace, chosen, list(changes), screen, numbers))
            return 0
        for each in changes:
            lines = (headline(each.commit, screen), *details(each, screen, numbers))
            sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _graph(
    workspace: Workspace,
    chosen: Selected,
    changes: Sequence[CommitChanges],
    screen: Screen,
    numbers: Callable[[ChangedModel], ModelChange] | None,
) -> list[str]:
    """Return the graph of the commits that change some checkpoints."""
    from git_theta_ext.git.commit_graph import draw_graph  # a list starts faster without it

    screen = replace(screen, width=screen.width and max(_NARROW, screen.width - _EDGES))
    below = {each.commit.oid: list(details(each, screen, numbers)) for each in changes}
    files = [file for each in changes for model in each.models for file in model.files]
    paths = dict.fromkeys(f":(top,literal){path}" for file in files for path in (file.path, file.old_path))
    if not paths:
        return []
    most = [] if chosen.most is None else [f"-n{chosen.most}"]
    words = [*chosen.limits, *most, *chosen.revisions, "--", *paths]
    height = 1 + max(map(len, below.values()))
    return draw_graph(
        workspace.repo, words, lambda commit: [headline(commit, screen), *below.get(commit.oid, ())], height
    )


def _subset(
    workspace: Workspace,
    chosen: Selected,
    changes: Sequence[CommitChanges],
    screen: Screen,
    numbers: Callable[[ChangedModel], ModelChange] | None,
) -> list[str]:
    """Return the graph of some commits alone."""
    from git_theta_ext.git.commit_subset import draw_subset  # a list starts faster without it

    screen = replace(screen, width=screen.width and max(_NARROW, screen.width - _EDGES))
    texts = {each.commit.oid: [headline(each.commit, screen), *details(each, screen, numbers)] for each in changes}
    if not texts:
        return []
    walk = [word for word in chosen.limits if word in _WALKS]
    words = [*walk, *chosen.revisions]
    return draw_subset(workspace.repo, words, texts, texts.__getitem__, max(map(len, texts.values())))


def _commits(repo: Repository, chosen: Selected, args: argparse.Namespace) -> Iterator[Commit]:
    if not args.follow:
        return read_log(repo, chosen.words, trailer=RECORD)
    if not chosen.paths:
        raise UsageError("--follow needs a path", hint="git theta log --follow -- model.safetensors")
    from git_theta_ext.git.followed_log import read_followed_log  # few logs need it

    return read_followed_log(repo, chosen.limits, chosen.revisions, chosen.paths, trailer=RECORD)


def _measures(workspace: Workspace) -> Callable[[ChangedModel], ModelChange]:
    from git_theta_ext.operations.history.numbers import measured  # a list of names starts faster without it

    return partial(measured, workspace)
