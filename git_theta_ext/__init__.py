"""Version the parameters of machine-learning models inside plain Git."""

from __future__ import annotations

from git_theta_ext.version import __version__

TYPE_CHECKING = False  # importing typing takes longer than the shortest command
if TYPE_CHECKING:
    from typing import Any

    from git_theta_ext.api import diff, load, log, merge, open, save  # noqa: A004 - git_theta_ext.open, as in other libraries

__all__ = ["__version__", "diff", "load", "log", "merge", "open", "save"]


def __getattr__(name: str) -> Any:
    # The commands that git starts must not wait for what only notebooks need.
    if name in ("diff", "load", "log", "merge", "open", "save"):
        from git_theta_ext import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
