"""A file that is written and read back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.util.file_bytes import FileBytes
from git_theta_ext.util.files import reporting_os_errors

if TYPE_CHECKING:
    from typing_extensions import Buffer


class WrittenFile(FileBytes):
    """The bytes of a file that this process alone writes, which grows with what is written.

    See ``git_theta_ext.interfaces.Target``. Not safe to write to from several threads.
    """

    def write(self, offset: int, data: Buffer) -> None:
        """Write bytes at an offset.

        Raises:
            StoreError: The disk is full, or fails.
        """
        view = memoryview(data).cast("B")
        with reporting_os_errors(Path(self.path)):
            while view.nbytes:
                written = os.pwrite(self.fileno(), view, offset)
                view, offset = view[written:], offset + written
        self.nbytes = max(self.nbytes, offset)
        self.forget()
