"""What commands print: text for people, ``--json`` for programs, nothing with ``--quiet``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from git_theta_ext.errors import ThetaError

Mode = Literal["human", "json", "quiet"]
Style = Literal["bold", "red", "green", "yellow"]

_CODES: dict[Style, str] = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}


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
                _say(line)

    def warn(self, message: str, hint: str | None = None) -> None:
        """Tell people about something that is no error."""
        if self.mode == "human":
            _complain(f"{self.styled('warning:', 'yellow')} {message}", hint)

    def note(self, message: str) -> None:
        """Tell people about something that they may not expect."""
        if self.mode == "human":
            _complain(f"note: {message}")

    def error(self, error: ThetaError) -> None:
        """Print what went wrong and what mends it."""
        if self.mode == "json":
            told = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
            _complain(json.dumps(told))
            return
        _complain(f"{self.styled('error:', 'red')} {error.message}", error.hint)

    def styled(self, text: str, style: Style) -> str:
        """Colour a text where colour is wanted."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[m" if self.color else text


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


def _complain(line: str, hint: str | None = None) -> None:
    sys.stderr.write(f"{line}\n" + (f"hint: {hint}\n" if hint else ""))
