"""The width of the screen that diffs are written to is that which shutil finds."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios
from shutil import get_terminal_size

import pytest

from git_theta_ext.cli.render.diff import screen_of


class Git:
    """Answers that diffs are not coloured."""

    def run(self, *_, **__):
        return b"false\n"


@pytest.mark.parametrize("columns", ["72", "0", "-1", "wide", "", None])
@pytest.mark.parametrize("width", [57, 0, None])
def test_the_width_is_that_of_the_pager_or_the_terminal(monkeypatch, columns, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    main, terminal = pty.openpty()
    try:
        if width is not None:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, width, 0, 0))
        with open(os.devnull if width is None else terminal, "w", closefd=width is None) as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            monkeypatch.setattr(sys, "__stdout__", stdout)
            assert (
                screen_of(Git()).width == get_terminal_size((0, 0)).columns == (72 if columns == "72" else width or 0)
            )
    finally:
        os.close(main)
        os.close(terminal)


def test_a_stream_without_a_file_has_no_width(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert screen_of(Git()).width == 0
