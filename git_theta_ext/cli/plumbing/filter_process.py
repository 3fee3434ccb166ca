"""Filter checkpoints on their way into and out of git; git runs this."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.git.caller import wants_quiet
from git_theta_ext.operations.filter.process import main

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE = "git config filter.theta.process 'git-theta filter-process'"


def register(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def given(words: Sequence[str]) -> SimpleNamespace | None:
    """Return the arguments that git gives: none."""
    return None if words else SimpleNamespace()


def run(_: argparse.Namespace) -> int:
    """Serve git until it closes the pipe."""
    return main(output_to_git(bars=not wants_quiet(os.getppid())))
