"""Prepare the process of a command: streams, encoding, environment, garbage collector."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from pathlib import Path

NAMES = "git-theta-names"
"""Error handler of the standard streams: keeps the bytes of a path, escapes characters that cannot be encoded."""

# Git sets this for the filter in a submodule; before 2.41 most commands of git refuse to run with it.
_NOT_FOR_GIT = "GIT_INTERNAL_SUPER_PREFIX"
_TRACE = "GIT_TRACE"
_SLEEPING_THREADS = ("OPENBLAS_THREAD_TIMEOUT", "4")
"""The threads of numpy's BLAS wait for work busily for 2^4 cycles, by default for 2^28, before they sleep.

It starts them when it is imported, even if nothing is computed, and calls for small matrices take less than that.
"""


def begin() -> None:
    """Prepare the process of a command, before it reads or prints anything."""
    _open_standard_files()
    _use_utf8()
    _clear_environment()
    os.environ.setdefault(*_SLEEPING_THREADS)
    sys.stderr = _Messages(open(2, "wb", closefd=False), sys.stderr.encoding, line_buffering=True)  # noqa: SIM115 - as above
    accept_any_name()


def _open_standard_files() -> None:
    # If the program was started without standard output, the next file that is opened would become it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the only parameter there is
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open for the whole process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - open for the whole process


def _use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode if the locale has another encoding.

    Manifests, attributes, rules and JSON are UTF-8 and git's paths are bytes. In that mode (PEP 540) a path is the same
    text in all of them, whatever the locale is. Bytes that are not UTF-8 are kept as surrogate escapes.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *_raw_arguments()])  # noqa: S606 - this very program


def _raw_arguments() -> list[bytes]:
    # Python decodes arguments with the C library, and its own codec cannot always encode them again (EUC-JP).
    with suppress(OSError):
        words = Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
        if len(words) == len(sys.orig_argv) - 1:
            return words
    return [os.fsencode(word) for word in sys.orig_argv[1:]]


def _clear_environment() -> None:
    """Remove variables that change the output of the git commands that are run."""
    os.environ.pop(_NOT_FOR_GIT, None)
    for name, value in list(os.environ.items()):
        # Traces on standard error would mix with messages that are read there. Traces to files can stay.
        if name.startswith(_TRACE) and (value.isdigit() or value.lower() == "true"):
            del os.environ[name]


class _Messages(io.TextIOWrapper):
    """Standard error. A closed reader is not a failure."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            silence(2)
            return len(text)


def silence(descriptor: int) -> None:
    """Discard what is still to be written to a descriptor. Python would complain about it when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def accept_any_name() -> None:
    """Let standard output and standard error print any path and any parameter name."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=NAMES)


def _encode_name(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    byte = ord(character) - 0xDC00  # as surrogateescape decodes a byte
    encoded = bytes([byte]) if 0x80 <= byte <= 0xFF else character.encode("ascii", "backslashreplace")  # noqa: PLR2004 - not ASCII
    return encoded, error.start + 1


codecs.register_error(NAMES, _encode_name)
