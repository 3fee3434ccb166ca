"""Track checkpoints that match a pattern, or list the patterns.

Adds a line to the .gitattributes of the current directory; git add .gitattributes and the checkpoints afterwards.
A preset stands for the patterns of a library. Without a pattern, lists the patterns that are tracked there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git import attribute_lines
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.index_attributes import add_index
from git_theta_ext.git.install import configured
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.presets import PRESETS
from git_theta_ext.git.readme import add_section, has_section, readme_of
from git_theta_ext.git.repository import Repository
from git_theta_ext.registry import find_format
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output

GROUP = "start"
EXAMPLE = "git theta track '*.safetensors' 'my models/**/*.pt' --preset keras"

_FEW = 4
"""The most files that a hint names one by one."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="patterns as in .gitattributes, quoted")
    parser.add_argument(
        "--preset",
        metavar="LIBRARY",
        action="append",
        default=[],
        choices=list(PRESETS),
        help=f"also track the patterns of a library: {', '.join(PRESETS)}; can be given several times",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="read the files as this format instead of detecting it; opaque does not split them into tensors",
    )
    parser.add_argument("--stage", action="store_true", help="stage .gitattributes, and what --readme wrote")
    parser.add_argument(
        "--readme", action="store_true", help="add to README.md how people who clone without git theta get the models"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Track patterns or list them."""
    output = output_of(args)
    if args.format is not None:
        find_format(args.format)
    repo = Repository.discover()
    readme = readme_of(worktree_of(repo))
    path = Path.cwd() / ".gitattributes"
    before = attribute_lines.read(path)
    wrote_readme = args.readme and not has_section(readme)
    if wrote_readme:
        add_section(readme)
        stages = "" if args.stage else f"; git add {shell_word(repo.relative(readme.name))} stages it"
        output.note(f"added a section to {readme.name}{stages}")
    patterns = list(dict.fromkeys([*args.patterns, *(item for name in args.preset for item in PRESETS[name].patterns)]))
    if args.format is not None and not patterns:
        raise UsageError("--format needs a pattern", hint="git theta track PATTERN --format opaque")
    if not patterns:
        tracked = attribute_lines.patterns(before)
        output.result({"tracked": tracked}, tracked or ["the .gitattributes of this directory tracks no pattern"])
        return 0
    text, added, lines = _add(output, before, patterns, args.format)
    if text != before:
        attribute_lines.write(path, text)
    if args.stage:
        repo.run("add", "--", str(path), *([str(readme)] if wrote_readme else []))
    in_git = _in_git(repo)
    output.result({"added": added, "file": str(path), "staged": args.stage, "in_git": in_git}, lines)
    if in_git:
        paths = " ".join(map(repo.argument, in_git)) if len(in_git) <= _FEW else "PATH"
        output.warning(
            f"git stores {plural(len(in_git), 'file')} itself that are tracked now: "
            f"{shortlist(map(repo.shown, in_git))}; git theta migrate import converts history too",
            f"git theta add {paths} && git commit",
        )
    if added and not attribute_lines.patterns(before) and not has_section(readme):
        output.note("git theta track --readme tells people who clone without git theta how to get the models")
    if not configured(repo):
        output.warning("git is not configured to use git theta and would store models itself", "git theta install")
    return 0


def _add(
    output: Output, text: str, patterns: Sequence[str], format_name: str | None
) -> tuple[str, list[str], list[str]]:
    """Return the new text, the patterns that were added, and a line for each pattern."""
    added, lines = [], []
    for pattern in patterns:
        outcome = attribute_lines.add(text, pattern, format_name)
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
        text = add_index(outcome.text, pattern)
    return text, added, lines


def _in_git(repo: Repository) -> list[str]:
    """Return the paths in the index that are checkpoints by their attributes, but whose content git stores itself."""
    entries = {entry.path: entry.oid for entry in repo.entries(None) if entry.regular and not entry.stage}
    tracked = theta_paths(repo.run, entries)
    infos = object_infos(repo, {entries[path] for path in tracked})
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    return [path for path in tracked if (oid := entries[path]) in infos and oid not in manifests and infos[oid].nbytes]
