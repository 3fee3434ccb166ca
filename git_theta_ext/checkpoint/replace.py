"""Put a file in the place of another, all at once and without waiting for the disk."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def replace_file(new: Path, path: Path) -> None:
    """Make ``path`` name the file that ``new`` named, which is gone afterwards; at no moment is ``path`` missing.

    ext4 writes a file to disk when it is renamed over another (ext4(5), ``auto_da_alloc``), which takes longer than
    decoding it. Where the system can exchange two names that is done instead, and the old file removed.

    Raises:
        OSError: The file system refused; both are as they were.
    """
    if not _exchange(new, path):
        new.replace(path)
        return
    try:
        new.unlink()
    except OSError:  # a folder, say, that somebody put there this moment
        _exchange(new, path)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names (renameat2(2)); return whether that was done."""
    call = _renameat2()
    return call is not None and call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


@cache
def _renameat2() -> Any:
    function = getattr(ctypes.CDLL(None), "renameat2", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
