"""What the programs that git calls say to the user: on standard error, which git shows as it comes."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache

from git_theta_ext.util.text import printable


def complain(text: str) -> None:
    """Write a line that begins with the program's name; a terminal that is gone is no failure."""
    say(f"git-theta: {text}")


@cache
def complain_once(text: str) -> None:
    """Write a line as ``complain`` does, but the same line only once a process."""
    complain(text)


def warn_once(text: str) -> None:
    """Write a warning, the same one only once a process."""
    complain_once(f"warning: {text}")


def say(text: str) -> None:
    """Write a line as it is."""
    # There is no stream at all where the descriptor was closed before Python began.
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{printable(text)}\n")
