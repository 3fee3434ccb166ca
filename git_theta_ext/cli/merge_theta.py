"""The merge strategy ``git merge -s theta``; git runs ``git-merge-theta``.

A merge of one branch goes to git's own recursive strategy, in which the theta driver merges the checkpoints.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import Output, wants_color
from git_theta_ext.errors import MergeError, ThetaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

CANNOT = 2
"""The exit code by which a strategy tells git that it cannot do this merge at all."""


@dataclass(frozen=True)
class Invocation:
    """What git asks a strategy for.

    Attributes:
        method: For ``theta.merge.method``, from ``-X method=NAME``; None leaves the configuration to decide.
        options: Other ``-X`` options, for git's strategy.
        bases: Common ancestors.
        head: The current commit.
        remotes: The branches that are merged into it.
    """

    method: str | None
    bases: tuple[str, ...]
    head: str
    remotes: tuple[str, ...]
    options: tuple[str, ...] = field(default=())


def parse(arguments: Sequence[str]) -> Invocation:
    """Read ``[--key=value ...] BASE... -- HEAD BRANCH...``.

    Raises:
        UsageError: It is not that.
    """
    words = list(arguments)
    if "--" not in words or len(words) - words.index("--") < 3:  # noqa: PLR2004 - itself, HEAD and one branch
        raise UsageError(
            "usage: git-merge-theta [--method=NAME] BASE... -- HEAD BRANCH...", hint="git merge -s theta BRANCH"
        )
    cut = words.index("--")
    options = [word for word in words[:cut] if word.startswith("--")]
    bases = tuple(word for word in words[:cut] if not word.startswith("--"))
    methods = [word.removeprefix("--method=") for word in options if word.startswith("--method=")]
    others = tuple(word for word in options if not word.startswith("--method="))
    return Invocation(methods[-1] if methods else None, bases, words[cut + 1], tuple(words[cut + 2 :]), others)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the strategy and return its exit code: 0 merged, 1 conflicts, 2 cannot do that."""
    try:
        return _merge(parse(sys.argv[1:] if argv is None else argv))
    except ThetaError as error:
        Output("human", color=wants_color()).error(error)
        return CANNOT


def _merge(asked: Invocation) -> int:
    if len(asked.remotes) != 1:
        raise MergeError(
            f"git merge -s theta merges one branch at a time, not {len(asked.remotes)}",
            hint=" && ".join(f"git merge {remote}" for remote in asked.remotes),
        )
    setting = [] if asked.method is None else ["-c", f"theta.merge.method={asked.method}"]
    command = ["git", *setting, "merge-recursive", *asked.options, *asked.bases, "--", asked.head, *asked.remotes]
    return subprocess.run(command, check=False).returncode
