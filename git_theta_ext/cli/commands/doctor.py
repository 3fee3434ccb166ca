"""Check the installation, hooks, attributes and remotes, and name the commands that solve problems.

Reads the index of each remote, as a fetch does. The exit code is 1 if there is a problem.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands.install import current_repository
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.render.findings import finding_lines
from git_theta_ext.comparison.words import plural
from git_theta_ext.operations.health.doctor import check_installation, check_repository
from git_theta_ext.operations.health.shell import check_shell
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta doctor --offline"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--offline", action="store_true", help="do not contact remotes")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything."""
    output, repo = output_of(args), current_repository()
    findings = [*check_installation(), *check_shell()]
    if repo is not None:
        with Workspace(repo, output) as workspace:
            findings += check_repository(workspace, offline=args.offline)
    problems = sum(finding.state == "problem" for finding in findings)
    pages = dict.fromkeys(f.topic for f in findings if f.state != "ok" and f.topic is not None)
    lines = list(finding_lines(output, findings))
    lines += ["", f"{plural(problems, 'problem')}" if problems else "no problems"]
    lines += [f"more: {', '.join(f'git theta help {page}' for page in pages)}"] if pages else []
    output.result({"problems": problems, "findings": [asdict(finding) for finding in findings]}, lines)
    return int(problems > 0)
