"""Map a file into memory, so that its pages count as the kernel's and not as ours."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def map_file(descriptor: int) -> memoryview:
    """Return a file's bytes, read-only; the map goes when nothing refers to it any more.

    Args:
        descriptor: Of a regular file; may be closed afterwards.

    Raises:
        OSError: It cannot be mapped.
    """
    if os.fstat(descriptor).st_size == 0:  # nothing cannot be mapped
        return memoryview(b"")
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def map_path(path: Path) -> memoryview:
    """Return the bytes of the file at a path, as ``map_file`` does.

    Raises:
        OSError: It cannot be opened or mapped.
    """
    with path.open("rb") as file:
        return map_file(file.fileno())
