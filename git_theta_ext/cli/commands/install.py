"""Configure git to use git theta.

Sets the filter, the diff and merge drivers, the merge tool and the hooks. Running it again changes nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import Output, add_options, output_of
from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.install import install
from git_theta_ext.git.repository import Repository
from git_theta_ext.util.installer import needed_environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.git.hooks import Change

GROUP = "start"
EXAMPLE = "git theta install"

_NEXT = "next, in a repository: git theta track '*.safetensors'"

_WIDEST = 60
"""Characters of a value above which only the last command of a script is shown; ``--json`` has all of it."""

SCOPES = {
    "global": "for the current user, in all repositories (default)",
    "local": "for this repository",
    "system": "for all users of the machine",
    "worktree": "for this work tree",
}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_scopes(parser)
    parser.add_argument("--force", action="store_true", help="replace existing settings of the same name")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Configure git."""
    changes = install(args.scope, current_repository(), force=args.force)
    output = output_of(args)
    report(output, changes, "already installed", after=_NEXT)
    if changes and (environment := needed_environment()) is not None:
        output.note(
            f"{environment} must be active in shells in which you type its commands, unless pipx or uv tool installs it"
        )
    return 0


def add_scopes(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a configuration file."""
    group = parser.add_mutually_exclusive_group()
    for scope, meaning in SCOPES.items():
        group.add_argument(
            f"--{scope}", action="store_const", dest="scope", const=scope, default="global", help=meaning
        )


def current_repository() -> Repository | None:
    """Return the repository of the current directory, or None if there is none."""
    try:
        return Repository.discover()
    except RepositoryError:
        return None


def report(output: Output, changes: Sequence[Change], nothing: str, after: str | None = None) -> None:
    """Print what was changed, and on stderr what the user has to do.

    Args:
        output: Where to print it.
        changes: What was changed.
        nothing: The line to print if nothing was changed.
        after: A line to print after the changes.
    """
    done = [change for change in changes if change.what not in {"todo", "option"}]
    lines = [f"{change.what} {change.where}{' = ' + _shown(change.value) if change.value else ''}" for change in done]
    if lines and after is not None:
        lines.append(after)
    output.result({"changes": [asdict(change) for change in changes]}, lines or [nothing])
    for change in changes:
        if change.note:
            output.warning(change.note, change.hint)


def _shown(value: str) -> str:
    _, separator, last = value.rpartition("; ")
    return f"...; {last}" if separator and len(value) > _WIDEST else value
