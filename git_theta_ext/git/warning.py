"""Warnings of the store, on standard error: git shows them to the user, whatever runs."""

from __future__ import annotations

import sys
from functools import cache


@cache
def warn(text: str) -> None:
    """Tell the user something, once a process."""
    sys.stderr.write(f"git-theta: warning: {text}\n")
