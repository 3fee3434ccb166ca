"""The terminal that diffs are written to."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.comparison.screen import Screen

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository


def screen_of(repo: Repository) -> Screen:
    """Return the width of standard output, and whether git colours diffs there."""
    terminal = "true" if sys.stdout.isatty() else "false"
    colour = repo.run("config", "--get-colorbool", "color.diff", terminal, check=False).strip() == b"true"
    return Screen(_columns(), colour)


def _columns() -> int:
    """Return the width of standard output as ``shutil`` does, whose import takes 2 ms; 0 for a file or pipe."""
    with suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", "0"))) > 0:  # git passes the width of its pager so
            return columns
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stdout.fileno()).columns
    return 0
