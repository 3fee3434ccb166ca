"""The paths in conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository


def unmerged(repo: Repository) -> dict[str, dict[int, str]]:
    """Return the object ids of the stages of each path in conflict."""
    stages: dict[str, dict[int, str]] = {}
    for entry in repo.entries(None):
        if entry.stage:
            stages.setdefault(entry.path, {})[entry.stage] = entry.oid
    return stages
