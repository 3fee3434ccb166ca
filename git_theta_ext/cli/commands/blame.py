"""Show the last commit of each parameter of a model.

Parameters and files are followed through renames: a parameter has been renamed if its value is that of one whose name
is gone. Parameters of the same commit whose names are alike share a line. Reads manifests only.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.pager import paged
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.cli.render.history import cut, short
from git_theta_ext.cli.revisions import add_model, chosen_parameters
from git_theta_ext.comparison.group import Item, fold
from git_theta_ext.comparison.words import shorten
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.operations.history.blame import last_changes
from git_theta_ext.operations.history.numbers import only
from git_theta_ext.operations.history.words import SHORT
from git_theta_ext.operations.model_names import find_version, typed_version
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.comparison.screen import Screen
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.operations.history.blame import LastChange
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta blame --param 'model.layers.7.**' main -- run/"

_MOST_ROWS = 16
_LEAST_LABEL = 24


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter, and the commit that it has its value from.

    Attributes:
        name: Its name in the model.
        path: The file that has it.
        in_file: Its name in that file.
        last: Its last change.
    """

    name: str
    path: str
    in_file: str
    last: LastChange

    @property
    def came_from(self) -> str:
        """The name that it had in the commit; empty if it has not been renamed since."""
        return "" if self.last.name == self.in_file else self.last.name


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(
        parser, "REV|PATH", "commit (default: HEAD), then a checkpoint or a directory with a model; -- separates them"
    )


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Show the last commit of each parameter."""
    repo = workspace.repo
    name = typed_version(repo, args.words, args.paths, hint="git theta blame -h")
    version = find_version(repo, name, command="git theta blame {}")
    rows = _changes(workspace, name.partition(":")[0], version, chosen_parameters(args.param))
    if output.mode == "human":
        screen = screen_of(repo)
        with paged(repo, "blame"):
            whole = _by_tensor(rows, version)
            sys.stdout.writelines(f"{line}\n" for line in _text(whole, screen, 0 if args.full else _MOST_ROWS))
    else:
        output.result(_data(rows), [])
    return 0


def _changes(
    workspace: Workspace, rev: str, version: ModelVersion, chosen: Callable[[str], bool] | None
) -> list[_Parameter]:
    files = {path: version.in_files(path) for path in version.shards}
    names = {path: {old: new for new, old in version.names_in_file(path).items()} for path in files}
    wanted = {
        path: only(manifest, [n for n in manifest.parameters if chosen is None or chosen(names[path].get(n, n))])
        for path, manifest in files.items()
    }
    found = last_changes(workspace.repo, commit_id(workspace.repo, rev), wanted)
    rows = (_Parameter(names[path].get(name, name), path, name, last) for (path, name), last in found.items())
    return sorted(rows, key=lambda row: row.name)


def _by_tensor(rows: Sequence[_Parameter], version: ModelVersion) -> list[_Parameter]:
    """Return one row for each tensor whose pieces all have their values from one commit, in place of its pieces."""
    tensors = {piece: name for name, tensor in version.joined.items() for piece in tensor.names}
    commits: dict[str, set[str]] = {}
    for row in rows:
        commits.setdefault(tensors.get(row.name, row.name), set()).add(row.last.commit.oid)
    whole: dict[str, _Parameter] = {}
    for row in rows:
        name = tensors.get(row.name, row.name)
        if name != row.name and len(commits[name]) == 1:
            whole.setdefault(name, replace(row, name=name))
        else:
            whole[row.name] = row
    return list(whole.values())


def _text(rows: Sequence[_Parameter], screen: Screen, most: int) -> Iterator[str]:
    commits = {row.last.commit.oid: row.last.commit for row in rows}
    folded = fold([Item(row.last.commit.oid, row.name, row.came_from) for row in rows], most)
    label = max((len(row.label) for row in folded), default=0)
    if screen.width:
        label = min(label, max(_LEAST_LABEL, screen.width // 2 - 8))
    for row in folded:
        commit = commits[row.items[0].sign]
        before = "" if not row.items[0].spec or len(row.items) > 1 else f"(was {row.items[0].spec}) "
        rest = f" {commit.date[:10]} {shorten(row.label, label):{label}} {len(row.items):4}  {before}{commit.subject}"
        rest = cut(rest, screen.width and screen.width - SHORT)
        yield f"{short(commit, screen)}{rest}"


def _data(rows: Sequence[_Parameter]) -> dict[str, Any]:
    commits = {row.last.commit.oid: row.last.commit for row in rows}
    return {
        "commits": {
            oid: {"author": commit.author, "date": commit.date, "subject": commit.subject}
            for oid, commit in commits.items()
        },
        "parameters": [
            {
                "name": row.name,
                "file": row.path,
                "commit": row.last.commit.oid,
                "file_there": row.last.path,
                "name_there": row.last.name,
            }
            for row in rows
        ],
    }
