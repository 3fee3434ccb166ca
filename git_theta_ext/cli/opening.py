"""Open the repository that a command works on."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_of
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from git_theta_ext.cli.output import Output


def in_workspace(
    run: Callable[[Output, Workspace, argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """Give a command the repository of the current directory, with its store, which is closed afterwards.

    Args:
        run: The command, given its output, the repository and the arguments; returns the exit code.

    Returns:
        The command as it is called, with the arguments alone.
    """

    @wraps(run)
    def opened(args: argparse.Namespace) -> int:
        output = output_of(args)
        with Workspace.discover(output) as workspace:
            return run(output, workspace, args)

    return opened
