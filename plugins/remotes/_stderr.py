"""Remove log lines of a C++ library from standard error."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG_LINE = re.compile(
    rb"^(?:[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+:\d+\] .*|WARNING: All log messages before absl.*)\n?", re.MULTILINE
)
_STDERR = 2
_lock = Lock()


@contextmanager
def silent_sdk() -> Iterator[None]:
    """Buffer the output to descriptor 2 for a block, and write it afterwards without the library's log lines.

    Amazon's SDK logs each location in which it finds no credentials, although the next one may have some. It writes to
    the descriptor directly and has no setting for this.
    """
    with _lock, tempfile.TemporaryFile() as buffer:
        try:
            terminal = os.dup(_STDERR)
        except OSError:  # standard error is closed
            yield
            return
        os.dup2(buffer.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)
            buffer.seek(0)
            if rest := _LOG_LINE.sub(b"", buffer.read()):
                os.write(_STDERR, rest)
