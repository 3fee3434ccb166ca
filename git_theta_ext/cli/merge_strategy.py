"""The merge strategy ``git merge -s theta``; git runs ``git-merge-theta``.

One branch is merged by git's recursive strategy, in which the theta driver merges the checkpoints. Then models of
several files that git cannot merge file by file are finished. Several branches are merged at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.cli.dispatch import failed
from git_theta_ext.cli.main import tune_gc
from git_theta_ext.cli.output import output_to_git
from git_theta_ext.cli.process import begin
from git_theta_ext.errors import MergeError, ThetaError, UsageError
from git_theta_ext.git.answers import calling_git
from git_theta_ext.git.merge_tree import common_ancestor
from git_theta_ext.git.process import FINISHED_LATER, MERGE_OPTIONS
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import commit_id, head_of
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.merging.rules.file import parse_override
from git_theta_ext.operations.merge.merged_trees import MergedTrees
from git_theta_ext.operations.merge.model_resolve import finish_divided, finish_models
from git_theta_ext.operations.merge.record import leave_for_hook
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules
from git_theta_ext.operations.merge.strategy import CANNOT, CONFLICTS, MERGED, run
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output

GIT_OPTIONS = frozenset(
    {
        "diff-algorithm",
        "find-renames",
        "histogram",
        "ignore-all-space",
        "ignore-cr-at-eol",
        "ignore-space-at-eol",
        "ignore-space-change",
        "no-renames",
        "no-renormalize",
        "ours",
        "patience",
        "rename-threshold",
        "renormalize",
        "subtree",
        "theirs",
    }
)
"""Options of git's own strategies (git-merge(1), "Merge strategies"). All others are for checkpoints."""

_SIDES = 2
"""Of a merge of one branch into the current one."""


@dataclass(frozen=True)
class Invocation:
    """Arguments that git passes to a merge strategy.

    Attributes:
        bases: Common ancestors.
        head: The current commit.
        remotes: The branches that are merged into it.
        words: From ``-X``, for checkpoints: such as ``method=ties`` and ``density=0.2``.
        options: From ``-X``, for git's strategy, with their dashes.
    """

    bases: tuple[str, ...]
    head: str
    remotes: tuple[str, ...]
    words: tuple[str, ...] = field(default=())
    options: tuple[str, ...] = field(default=())


def parse(arguments: Sequence[str]) -> Invocation:
    """Read ``[--key[=value] ...] BASE... -- HEAD BRANCH...``.

    Raises:
        UsageError: The arguments have another form.
    """
    words = list(arguments)
    if "--" not in words or len(words) - words.index("--") < 3:  # noqa: PLR2004 - the separator, HEAD and one branch
        raise UsageError(
            "usage: git-merge-theta [--OPTION[=VALUE] ...] BASE... -- HEAD BRANCH...", hint="git merge -s theta BRANCH"
        )
    cut = words.index("--")
    options = [word for word in words[:cut] if word.startswith("--")]
    bases = tuple(word for word in words[:cut] if not word.startswith("--"))
    for_git = tuple(word for word in options if word[2:].partition("=")[0] in GIT_OPTIONS)
    settings = tuple(word[2:] for word in options if word not in for_git)
    return Invocation(bases, words[cut + 1], tuple(words[cut + 2 :]), settings, for_git)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the strategy and return its exit code: 0 for a merge, 1 for conflicts, 2 if it cannot merge."""
    if argv is None:
        tune_gc()
        begin()
    output = output_to_git()
    try:
        return _merge(output, parse(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return CANNOT
    except Exception as error:  # noqa: BLE001 - git expects one of three exit codes
        failed(output, error)
        return CANNOT


def _merge(output: Output, invocation: Invocation) -> int:
    if len(invocation.remotes) == 1:
        return _recursive(output, invocation)
    if invocation.options:
        raise MergeError(
            f"-X {invocation.options[0][2:]} works with one branch at a time, not with {len(invocation.remotes)}",
            hint=f"git merge -s theta -X {shell_word(invocation.options[0][2:])} {shell_word(invocation.remotes[0])}",
        )
    with Workspace.discover(output) as workspace:
        heads = (head_of(workspace.repo) or invocation.head, *invocation.remotes)
        merged = run(workspace, invocation.bases, heads, invocation.words)
        _leave_records(workspace, heads)
    output.text(merged.messages)  # as git's own strategies print them
    return merged.code


def _recursive(output: Output, invocation: Invocation) -> int:
    if invocation.words:  # else the driver would report them as set in the environment
        merge_rules(rule_sources(Repository.discover()), words=invocation.words)
        _check_weights(invocation.words)
    command = [
        "git",
        "merge-recursive",
        *invocation.options,
        *invocation.bases,
        "--",
        invocation.head,
        *invocation.remotes,
    ]
    # -X ours and -X theirs decide checkpoints too, unless a method is named.
    favoured = [f"method={word[2:]}" for word in invocation.options if word in {"--ours", "--theirs"}][-1:]
    words = [*favoured, *invocation.words]
    os.environ[MERGE_OPTIONS] = _environment(words)
    os.environ[FINISHED_LATER] = "1"
    code = subprocess.run(command, cwd=_users_directory(), check=False).returncode
    return _finished(output, invocation) if code in {MERGED, CONFLICTS} else code


def _check_weights(words: Sequence[str]) -> None:
    count = len(parse_override("command line", words).weights)
    if count not in {0, _SIDES}:
        raise UsageError(
            f"{count} weights are given for {_SIDES} sides", hint="give one weight for each side, ours first"
        )


def _finished(output: Output, invocation: Invocation) -> int:
    """Finish models that git could not merge file by file, and return 0 if no conflict is left, else 1."""
    with Workspace.discover(output) as workspace:
        base = common_ancestor(workspace.repo, invocation.bases)
        trees = MergedTrees(base, (commit_id(workspace.repo, invocation.head), *invocation.remotes))
        finished = finish_models(workspace, list(unmerged(workspace.repo)), trees)
        for model in [*finished, *finish_divided(workspace, trees)]:
            if not model.conflicted:
                output.note(f"{shown_path(model.name)}: all files are merged")
        _leave_records(workspace, (trees.sides[0], *invocation.remotes))
        return CONFLICTS if unmerged(workspace.repo) else MERGED


def _leave_records(workspace: Workspace, heads: Sequence[str]) -> None:
    """Let the hook of the ``git merge`` that runs this strategy add the records without Python, if that is certain."""
    if (git := calling_git(above=1)) is not None:
        with suppress(ThetaError):
            leave_for_hook(workspace.repo, git, heads)


def _users_directory() -> str | None:
    """Return the user's directory, which git passes to the driver; None if paths in the environment are relative."""
    if {"GIT_DIR", "GIT_INDEX_FILE"} & os.environ.keys():
        return None
    return os.environ.get("GIT_PREFIX") or None


def _environment(words: Sequence[str]) -> str:
    """Return words for the driver. They override those in the environment; a method replaces all of them."""
    inherited = os.environ.get(MERGE_OPTIONS, "").split()
    return " ".join([*([] if parse_override("command line", words).method else inherited), *words])
