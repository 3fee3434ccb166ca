"""Find out whether any installed package has entry points of a group, without importing ``importlib.metadata``.

That module takes tens of milliseconds to import and to parse what all packages have, and mostly no package has any.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path

_SUFFIXES = (".dist-info", ".egg-info")


def may_have(group: str) -> bool:
    """Return whether an installed package may have entry points of a group; False only if none has.

    Args:
        group: Name of the group. What other packages write into their files is not parsed, only searched for it.
    """
    if any(finder is not PathFinder and hasattr(finder, "find_distributions") for finder in sys.meta_path):
        return True
    return any(_mentions(Path(place), group.encode()) for place in dict.fromkeys(sys.path))


def _mentions(place: Path, group: bytes) -> bool:
    """Return whether packages in a place may have such entry points; zip archives and eggs are not searched."""
    if place.suffix == ".egg" or place.is_file():
        return True
    with suppress(OSError):
        for child in place.iterdir():
            if child.name.lower().endswith(_SUFFIXES):
                with suppress(OSError):
                    if group in (child / "entry_points.txt").read_bytes():
                        return True
    return False
