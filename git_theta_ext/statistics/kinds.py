"""Kinds of statistics by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.registry import built_in, find_statistics, names
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.interfaces import StatisticsKind

DEFAULT_KINDS = ("fisher", "gram")
"""The kinds that are collected if none are named."""


def find_kinds(wanted: Sequence[str]) -> list[StatisticsKind]:
    """Return kinds of statistics by name.

    Raises:
        UsageError: No such kind is installed.
        PluginError: It cannot be loaded.
    """
    if unknown := [kind for kind in wanted if not are_kinds([kind])]:
        raise UsageError(
            f"unknown kind of statistics {unknown[0]!r}",
            hint=f"git theta stats collect CHECKPOINT --kinds {shell_word(','.join(names('statistics')))}",
        )
    return [find_statistics(kind) for kind in wanted]


def are_kinds(kinds: Iterable[str]) -> bool:
    """Return whether all names are those of kinds of statistics that are installed."""
    unknown = set(kinds) - set(built_in("statistics"))
    return not unknown or unknown <= set(names("statistics"))
