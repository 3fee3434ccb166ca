"""The terminal that diffs are written to."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from git_theta_ext.comparison.screen import Screen

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository


def screen_of(repo: Repository) -> Screen:
    """Return the width of standard output, and whether git colours diffs there."""
    terminal = "true" if sys.stdout.isatty() else "false"
    colour = repo.run("config", "--get-colorbool", "color.diff", terminal, check=False).strip() == b"true"
    # Git passes a pager's width in COLUMNS; a file or pipe has none.
    width = shutil.get_terminal_size((0, 0)).columns
    return Screen(width, colour)
