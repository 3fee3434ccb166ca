"""Merge a text file as git does without a merge driver."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository


def merge_file(repo: Repository, ours: str, base: str, theirs: str) -> int:
    """Merge three files into the first one, and return 1 if there are conflicts in it, else 0.

    Args:
        repo: The repository.
        ours: Path of the current branch's version.
        base: Path of the common ancestor's version.
        theirs: Path of the other branch's version.
    """
    words = ["git", "merge-file", "--quiet", "-L", "ours", "-L", "base", "-L", "theirs", ours, base, theirs]
    return int(subprocess.run(words, env=repo.environment(), check=False).returncode != 0)
