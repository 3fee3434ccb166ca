"""What commands print: text for people, ``--json`` for programs, nothing with ``--quiet``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.git.notes import say
from git_theta_ext.util.text import printable, redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from git_theta_ext.errors import ThetaError

Mode = Literal["human", "json", "quiet"]
Style = Literal["bold", "red", "green", "yellow"]

_CODES: dict[Style, str] = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}


class _Styled(str):
    """A text that may hold terminal sequences, as it is our own."""

    __slots__ = ()


@dataclass(frozen=True)
class Output:
    """Prints results on stdout, everything else on stderr.

    Attributes:
        mode: For whom.
        color: Whether text for people may be coloured.
    """

    mode: Mode
    color: bool = False

    def result(self, data: object, lines: Iterable[str]) -> None:
        """Print a command's result.

        Args:
            data: For programs; must be serialisable as JSON.
            lines: The same for people.
        """
        if self.mode == "json":
            _say(json.dumps(data, indent=2))
        elif self.mode == "human":
            for line in lines:
                _say(line if isinstance(line, _Styled) else printable(line))

    def warn(self, message: str, hint: str | None = None) -> None:
        """Tell people about something that is no error."""
        if self.mode == "human":
            _complain(self.styled("warning:", "yellow"), message, hint)

    def note(self, message: str) -> None:
        """Tell people about something that they may not expect."""
        if self.mode == "human":
            _complain("note:", message)

    def error(self, error: ThetaError) -> None:
        """Print what went wrong and what mends it."""
        if self.mode == "json":
            told = {"error": redacted(error.message), "hint": error.hint, "exit_code": error.exit_code}
            say(json.dumps(told))
            return
        _complain(self.styled("error:", "red"), error.message, error.hint)

    def styled(self, text: str, style: Style) -> str:
        """Colour a text of ours where colour is wanted: it is printed as it is, unlike names out of files."""
        return _Styled(f"\x1b[{_CODES[style]}m{text}\x1b[m" if self.color else text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--quiet`` to a command that prints a result."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_const", dest="mode", const="json", help="print the result as JSON")
    group.add_argument("-q", "--quiet", action="store_const", dest="mode", const="quiet", help="print errors only")


def output_of(args: argparse.Namespace) -> Output:
    """Return the output that a command line asks for."""
    return Output(getattr(args, "mode", None) or "human", color=wants_color())


def wants_color() -> bool:
    """Tell whether both streams may be coloured: https://no-color.org, and a terminal that is not dumb."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty() and sys.stderr.isatty()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _complain(label: str, text: str, hint: str | None = None) -> None:
    with suppress(OSError, ValueError, AttributeError):  # a terminal that is gone is no failure
        sys.stderr.write(f"{label} {printable(text)}\n" + (f"hint: {printable(hint)}\n" if hint else ""))
