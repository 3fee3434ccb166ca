import sqlite3
import struct

import msgpack
import pytest
import zstandard

from git_theta_ext.errors import FormatError, to_theta_error


@pytest.mark.parametrize(
    "error",
    [
        RecursionError("deep"),
        KeyError("k"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        struct.error("short"),
        msgpack.OutOfData(),
        zstandard.ZstdError("bad"),
        sqlite3.DatabaseError("malformed"),
        EOFError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_that_nobody_thought_of_is_said_to_be_a_bug(error):
    reported = to_theta_error(error)
    assert reported.exit_code == 129
    assert "bug" in reported.message
    assert type(error).__name__ in reported.message
    assert "GIT_THETA_TRACEBACK=1" in reported.hint


def test_errors_that_mean_something_are_no_bugs():
    error = FormatError("x")
    assert to_theta_error(error) is error
    assert to_theta_error(MemoryError()).exit_code == 129
    assert "not enough memory" in to_theta_error(MemoryError()).message
    assert to_theta_error(OSError(28, "No space left on device", "/x")).message == "/x: No space left on device"
