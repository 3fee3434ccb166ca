"""A file that is written and read back."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.util.file_bytes import FileBytes
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.system import pwrite

if TYPE_CHECKING:
    from typing_extensions import Buffer


class WrittenFile(FileBytes):
    """The bytes of a file that this process alone writes, which grows with what is written.

    Threads may write and read different parts of it at the same time.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__(descriptor, path)
        self._lock = Lock()

    def write(self, offset: int, data: Buffer) -> None:
        """Write bytes at an offset.

        Raises:
            StoreError: The disk is full, or fails.
        """
        view = memoryview(data).cast("B")
        with reporting_os_errors(Path(self.path)):
            while view.nbytes:
                written = pwrite(self.fileno(), view, offset)
                view, offset = view[written:], offset + written
        with self._lock:
            self.nbytes = max(self.nbytes, offset)
            self.forget()

    def _read_ahead(self, start: int, end: int) -> memoryview:
        # What is read ahead may have parts that another thread writes meanwhile, which then forgets all of it.
        with self._lock:
            return super()._read_ahead(start, end)
