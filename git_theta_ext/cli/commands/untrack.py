"""Stop tracking checkpoints that match a pattern.

Committed versions stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git import attribute_lines
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.entries import update_index
from git_theta_ext.git.index_attributes import remove_index
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta untrack '*.safetensors'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("patterns", metavar="PATTERN", nargs="+", help="patterns as they were given to track")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Stop tracking patterns."""
    repo = Repository.discover()
    worktree_of(repo)
    path = Path.cwd() / ".gitattributes"
    text = before = attribute_lines.read(path)
    for pattern in args.patterns:
        shorter = attribute_lines.remove(text, pattern)
        if shorter == text:
            raise UsageError(f"{pattern!r} is not tracked by {path}", hint="git theta track")
        text = remove_index(shorter, pattern)
    if text != before:
        attribute_lines.write(path, text)
    output_of(args).result(
        {"removed": args.patterns, "file": str(path)}, [f"no longer tracking {pattern}" for pattern in args.patterns]
    )
    left = _forget(repo)
    if left:
        output_of(args).warning(
            f"git still has the manifests of {plural(left, 'checkpoint')} no longer tracked, "
            "and clones would get their text; to commit the files themselves:",
            "git add .gitattributes && git add --renormalize :/",
        )
    return 0


def _forget(repo: Repository) -> int:
    """Let git read the files of manifests that are no longer tracked again, and return their number.

    The index has the stat data of the files, so that ``git add`` would take them for unchanged.
    """
    manifests = repo.manifests(None)
    left = set(manifests).difference(theta_paths(repo.run, manifests))
    entries = [entry for entry in repo.entries(None) if entry.path in left and not entry.stage]
    update_index(repo.run, entries)
    return len(entries)
