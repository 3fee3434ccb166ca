"""Keep log lines that a C++ library writes to standard error from the terminal."""

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
    """Hold back what is written to descriptor 2 for a block, and then write all of it but the library's log lines.

    Amazon's SDK logs each place where it finds no credentials, although the next may have some. It writes to the
    descriptor itself and has no setting.
    """
    with _lock, tempfile.TemporaryFile() as held:
        try:
            terminal = os.dup(_STDERR)
        except OSError:  # it is closed
            yield
            return
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)
            held.seek(0)
            if rest := _LOG_LINE.sub(b"", held.read()):
                os.write(_STDERR, rest)
