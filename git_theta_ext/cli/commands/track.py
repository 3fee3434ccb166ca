"""Track checkpoints that match a pattern, or list the patterns.

Adds a line to the .gitattributes of the current directory; git add .gitattributes and the checkpoints afterwards.
Without a pattern, lists the patterns that are tracked there.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.git import attributes
from git_theta_ext.git.install import configured
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.readme import add_section, has_section, readme_of
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta track '*.safetensors' 'my models/**/*.pt'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="patterns as in .gitattributes, quoted")
    parser.add_argument(
        "--readme", action="store_true", help="add to README.md how people who clone without git theta get the models"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Track patterns or list them."""
    output = output_of(args)
    repo = Repository.discover()
    readme = readme_of(worktree_of(repo))
    path = Path.cwd() / ".gitattributes"
    before = attributes.read(path)
    if args.readme and not has_section(readme):
        add_section(readme)
        output.note(f"added a section to {readme.name}; git add {quote(repo.relative(readme.name))} stages it")
    if not args.patterns:
        tracked = attributes.patterns(before)
        output.result({"tracked": tracked}, tracked or ["the .gitattributes of this directory tracks no pattern"])
        return 0
    text = before
    added, lines = [], []
    for pattern in args.patterns:
        outcome = attributes.add(text, pattern)
        if outcome.text != text:
            added.append(pattern)
        lines.append(f"tracking {pattern}" if outcome.text != text else f"already tracking {pattern}")
        if outcome.kept:
            output.warning(f"{pattern} keeps {', '.join(outcome.kept)}, which git uses instead of git theta")
        if outcome.replaced:
            output.warning(
                f"{pattern}: {', '.join(outcome.replaced)} is replaced by git theta; models in Git LFS are converted "
                "when they are added again",
                "git lfs pull && git theta add .",
            )
        text = outcome.text
    if text != before:
        attributes.write(path, text)
    output.result({"added": added, "file": str(path)}, lines)
    if added and not attributes.patterns(before) and not has_section(readme):
        output.note("git theta track --readme tells people who clone without git theta how to get the models")
    if not configured(repo):
        output.warning("git is not configured to use git theta and would store models itself", "git theta install")
    return 0
