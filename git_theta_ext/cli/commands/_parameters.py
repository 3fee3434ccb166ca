"""Take parameters of another version into a checkpoint, for ``git theta checkout REV:PATH PATTERN``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.revisions import chosen_parameters
from git_theta_ext.comparison.group import labels
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import find_object
from git_theta_ext.operations.model_names import find_version, full_path
from git_theta_ext.operations.staging.part import part_of, write_part
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace

_MOST_LABELS = 2


def is_version(repo: Repository, word: str) -> bool:
    """Return whether a word is ``REV:PATH``, and not a file or a pathspec of git such as ``:(top)``."""
    rev, separator, path = word.partition(":")
    return bool(rev and separator and path) and find_object(repo, f"{rev}^{{commit}}") is not None


def take_parameters(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Take the parameters that match patterns from ``REV:PATH``; returns the exit code."""
    name, *patterns = args.paths
    chosen = chosen_parameters(patterns)
    if chosen is None or args.force:
        raise UsageError(
            "expected patterns of parameters after REV:PATH, and no --force",
            hint=f"git theta show {shell_word(name)} lists the parameters",
        )
    repo = workspace.repo
    worktree_of(repo)
    source = find_version(repo, name, command="git theta checkout {}")
    path = full_path(repo, name.partition(":")[2])
    target = find_version(repo, f":{path}", command="git theta show {}")
    part = part_of(source, target, chosen, f"git theta show {shell_word(name)} lists the parameters")
    failures = []
    if part.taken and not args.dry_run:
        with output.progress("writing", part.nbytes) as advance:
            failures = write_part(workspace, part, advance)
    lines = [f"{'would take' if args.dry_run else 'took'} {plural(len(part.taken), 'parameter')} from {name}"]
    lines += [f"  {label}" for label in (labels(part.taken, _MOST_LABELS) if part.taken else ())]
    lines += [f"{plural(part.same, 'parameter')} had the same value"] if part.same else []
    data = {"taken": list(part.taken), "same": part.same, "files": sorted(part.files), "dry_run": args.dry_run}
    output.result(data, lines)
    for failure in failures:
        output.error(failure)
    return failures[0].exit_code if failures else 0
