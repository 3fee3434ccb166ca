"""The terminal that diffs and histories are written to."""

from __future__ import annotations

from git_theta_ext.records import dataclass


@dataclass(frozen=True, slots=True)
class Screen:
    """The terminal that text is written to.

    Attributes:
        width: Number of columns; 0 for no limit.
        colour: Whether it supports ANSI colour sequences.
    """

    width: int = 0
    colour: bool = False
