"""Leave checkpoints that match a pattern to git alone; versions already committed stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.errors import UsageError
from git_theta_ext.git import attributes
from git_theta_ext.git.paths import worktree_of
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse

EXAMPLE = "git theta untrack '*.safetensors'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("patterns", metavar="PATTERN", nargs="+", help="as it was given to track")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Untrack."""
    worktree_of(Repository.discover())
    path = Path.cwd() / ".gitattributes"
    text = before = attributes.read(path)
    for pattern in args.patterns:
        shorter = attributes.remove(text, pattern)
        if shorter == text:
            raise UsageError(f"{pattern!r} is not tracked by {path}", hint="git theta track, without a pattern, lists")
        text = shorter
    if text != before:
        attributes.write(path, text)
    output_of(args).result(
        {"removed": args.patterns, "file": str(path)}, [f"no longer tracking {pattern}" for pattern in args.patterns]
    )
    return 0
