"""Remove the settings and hooks that install added.

Settings and hooks of other programs are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.commands.install import add_scopes, current_repository, report
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.git.install import uninstall

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta uninstall --local"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_scopes(parser)
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Remove the configuration."""
    report(output_of(args), uninstall(args.scope, current_repository()), "nothing to remove")
    return 0
