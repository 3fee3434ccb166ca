"""Read a file piece by piece into private memory, without mapping it.

If another program truncates a mapped file, reading it kills this process (mmap(2), SIGBUS). If another program writes
to it, bytes change after they were checked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, overload

from git_theta_ext.errors import ChangedError, StoreError
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.system import pread

if TYPE_CHECKING:
    from pathlib import Path

_NEAR = 1 << 10
_WINDOW = 1 << 14
"""Bytes that are read ahead if few are requested, since headers and tables are read value by value."""


class FileBytes:
    """The bytes of a regular file; see ``git_theta_ext.model.content.Content``. Safe to use from several threads.

    Args:
        descriptor: Descriptor of the file. It may be closed afterwards.
        path: For messages.
        settled: Whether any write from now on changes the times of the file.

    Attributes:
        nbytes: Size of the file when it was opened.
        path: For messages.
        settled: As given.
    """

    def __init__(self, descriptor: int, path: str, *, settled: bool = False) -> None:
        self._descriptor = -1
        self._descriptor = os.dup(descriptor)
        self.path = path
        self.settled = settled
        self.nbytes = os.fstat(descriptor).st_size
        self._window = (0, memoryview(b""))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor that is read from."""
        return self._descriptor

    def read(self, start: int, end: int) -> memoryview:
        """Return a copy of the bytes from ``start`` up to ``end``, which must lie in the file.

        Raises:
            ChangedError: The file was truncated.
            StoreError: The file cannot be read.
        """
        data = self._pread(end - start, start)
        if len(data) < end - start:  # one call reads at most 2 GiB
            pieces = [data]
            while start + sum(map(len, pieces)) < end:
                at = start + sum(map(len, pieces))
                pieces.append(self._pread(end - at, at))
            data = b"".join(pieces)
        return memoryview(data)

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            data = pread(self._descriptor, count, offset)
        except OSError as error:
            raise StoreError(f"cannot read {shown_path(self.path)}: {error.strerror}", hint="check the disk") from error
        if count and not data:
            raise ChangedError(f"{shown_path(self.path)} was truncated while it was read")
        return data

    def forget(self) -> None:
        """Read again what was read ahead, after the file was written to."""
        self._window = (0, memoryview(b""))

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
    def __getitem__(self, key: int | slice, /) -> int | memoryview:
        """Return a byte, or a copy of a range. Bytes near each other may come from one read."""
        if isinstance(key, slice):
            start, end, _ = key.indices(self.nbytes)
            return self._read_ahead(start, max(start, end))
        if not 0 <= key < self.nbytes:
            raise IndexError(f"byte {key} of {self.nbytes}")
        return self._read_ahead(key, key + 1)[0]

    def _read_ahead(self, start: int, end: int) -> memoryview:
        if end - start > _NEAR:
            return self.read(start, end)
        first, window = self._window
        if not first <= start <= end <= first + window.nbytes:
            first, window = start, self.read(start, min(start + _WINDOW, self.nbytes))
            self._window = first, window
        return window[start - first : end - first]


def open_bytes(path: Path, label: str | None = None, *, settled: bool = False) -> FileBytes:
    """Return the bytes of the file at a path.

    Args:
        path: Path of a regular file.
        label: Name of the file in messages; by default its path.
        settled: As for ``FileBytes``.

    Raises:
        OSError: The file cannot be opened.
    """
    with path.open("rb", buffering=0) as file:
        return FileBytes(file.fileno(), label or str(path), settled=settled)
