"""Run commands in a terminal, and draw what it shows."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import termios
from fcntl import ioctl
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

COLUMNS, _ROWS = 96, 60
_BLOCK = 1 << 16
_UP, _ERASE = re.compile(r"^(?:\x1b\[(\d*)A)+"), re.compile(r"\x1b\[\d*K|\x1b\[\?25[lh]")
_DRAWING = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
font: {char_height}px/{line_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
white-space: pre;
}}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""As rich draws a terminal, with fonts that the reader has: a picture may not load others."""


def shown(command: str, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Run a command in a shell, and return the lines that a terminal shows then, with their colours.

    Raises:
        CalledProcessError: It failed.
    """
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, _BLOCK):
            written += block
    except OSError:  # how Linux reports the end
        pass
    finally:
        os.close(ours)
    if code := process.wait():
        raise subprocess.CalledProcessError(code, command, written.decode())
    return screen(written.decode())


def screen(written: str) -> list[str]:
    """Return the lines that are left on a terminal; progress bars are erased by what follows them."""
    lines: list[str] = []
    for line in written.replace("\r\n", "\n").split("\n"):
        text = line.rpartition("\r")[2]
        for move in _UP.finditer(text):
            del lines[len(lines) - int(move[1] or 1) :]
        lines.append(_ERASE.sub("", _UP.sub("", text)))
    return lines[:-1] if lines[-1] == "" else lines


def draw(name: str, title: str, session: Iterable[tuple[str, list[str]]]) -> str:
    """Return an SVG of commands and what a terminal shows of each.

    Args:
        name: Begins the ids within the SVG.
        title: Of the window.
        session: Commands and the lines that they printed.
    """
    console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True, legacy_windows=False)
    for at, (command, lines) in enumerate(session):
        if at:
            console.print()
        console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")))
        for line in lines:
            text = Text.from_ansi(line)
            for part in text.divide(range(COLUMNS, len(text), COLUMNS)):  # as a terminal does, and not between words
                console.print(part)
    drawing = console.export_svg(title=title, theme=SVG_EXPORT_THEME, code_format=_DRAWING, unique_id=name)
    return "".join(f"{line.strip()}\n" for line in drawing.splitlines() if line.strip())
