"""Where a git process that merges may leave checkpoints for its own checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.answers import DRAFTS, calling_git

if TYPE_CHECKING:
    from pathlib import Path


def drafts_of_caller(git_dir: Path) -> Path | None:
    """Return the directory of the calling git; None if it is not certain which process that is.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
    """
    git = calling_git()
    return None if git is None else git_dir.joinpath(*DRAFTS, git)
