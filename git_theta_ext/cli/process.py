"""What holds for the whole process of a command."""

from __future__ import annotations

import atexit
import gc


def collect_seldom() -> None:
    """Let the garbage collector look for cycles seldom, and not when the process ends.

    To go through all that torch defines, as it is imported and once more at the end, takes a third of a small merge's
    time.
    """
    gc.set_threshold(100_000, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
