"""Show the state of the repository and what to do next: ``git theta`` without arguments."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands.install import current_repository
from git_theta_ext.cli.render.findings import finding_lines
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.operations.health.overview import first_steps, overview
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.health.overview import Overview

_WHAT = "Version the parameters of machine-learning models in git."
_MORE = "git theta -h lists the commands, git theta help TOPIC explains more."


def show(output: Output) -> int:
    """Show the state, and return the exit code."""
    repo = current_repository()
    if repo is None or repo.worktree is None:
        steps = first_steps(None)
        nothing: dict[str, object] = {"worktree": None, "next": [asdict(step) for step in steps]}
        where = "This is not a git repository with a work tree. In one:"
        output.result(nothing, [_WHAT, "", where, *finding_lines(output, steps), "", _MORE])
        return 0
    with Workspace(repo, output) as workspace:
        state = overview(workspace)
    data = {"worktree": str(repo.worktree), **asdict(state)}
    data["next"] = data.pop("findings")
    output.result(data, [*_lines(output, state, repo.worktree.name), "", _MORE])
    return 0


def _lines(output: Output, state: Overview, name: str) -> Iterator[str]:
    branch = f" on {state.branch}" if state.branch else ""
    if not state.checkpoints:
        yield _WHAT
        yield ""
    held = f"{plural(state.checkpoints, 'checkpoint')}, {human_bytes(state.stored)} stored"
    yield f"{name}{branch}: {held}" if state.checkpoints else f"{name}{branch}: no checkpoint is tracked yet"
    if state.findings:
        yield from finding_lines(output, state.findings)
    else:
        yield "  nothing to do"
