"""Track checkpoints that match a pattern, or list the patterns.

Adds a line to the .gitattributes of the current directory. Without a pattern, lists the patterns that are tracked
there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.git import attributes
from git_theta_ext.git.install import configured
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta track '*.safetensors' 'my models/**/*.pt'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="patterns as in .gitattributes, quoted")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Track."""
    output = output_of(args)
    repo = Repository.discover()
    worktree_of(repo)
    path = Path.cwd() / ".gitattributes"
    before = attributes.read(path)
    if not args.patterns:
        tracked = attributes.patterns(before)
        output.result({"tracked": tracked}, tracked or ["no pattern is tracked by the .gitattributes of this folder"])
        return 0
    text = before
    added, lines = [], []
    for pattern in args.patterns:
        outcome = attributes.add(text, pattern)
        if outcome.text != text:
            added.append(pattern)
        lines.append(f"tracking {pattern}" if outcome.text != text else f"tracked already: {pattern}")
        if outcome.kept:
            output.warning(f"{pattern} keeps {', '.join(outcome.kept)}, which git uses in the place of ours")
        if outcome.replaced:
            output.warning(
                f"{pattern}: {', '.join(outcome.replaced)} made way for git theta; models in Git LFS move when "
                "they are added again",
                "git lfs pull && git theta add .",
            )
        text = outcome.text
    if text != before:
        attributes.write(path, text)
    output.result({"added": added, "file": str(path)}, lines)
    if not configured(repo):
        output.warning(
            "git does not know the filter yet; models would be stored in git as they are", "git theta install"
        )
    return 0
