"""Print what commands have to say: text for people, JSON with ``--json``, errors only with ``--quiet``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Literal

from git_theta_ext.cli.progress import Display
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.text import indented, printable_line, redacted
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.util.reporter import Progress

Mode = Literal["human", "json", "quiet"]
Style = Literal["bold", "red", "green", "yellow"]

_CODES: dict[Style, str] = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}


class _Styled(str):
    """A text that is printed as it is, as it may hold terminal sequences."""

    __slots__ = ()


@dataclass(frozen=True)
class Output:
    """Prints results on stdout, everything else on stderr; the ``Reporter`` of what a command calls.

    Attributes:
        mode: Text for people, JSON for programs, or errors only.
        color: Whether text for people is coloured.
        prefix: Precedes every line on stderr.
        bars: Whether to show progress.
    """

    mode: Mode
    color: bool = False
    prefix: str = ""
    bars: bool = True
    _reported: set[str] = field(default_factory=set, compare=False)
    _display: Display = field(default_factory=Display, compare=False)

    def result(self, data: Mapping[str, Any], lines: Iterable[str], *, schema: int = 1) -> None:
        """Print a command's result.

        Args:
            data: For programs; must be serialisable as JSON.
            lines: The same for people. Each is printed as one line, even if a name in it has line feeds.
            schema: Version of ``data``. Raise it if a field is removed or changes its meaning.
        """
        if self.mode == "json":
            _say(json.dumps({"schema": schema, **data}, indent=2))
        elif self.mode == "human":
            self.text(lines)

    def text(self, lines: Iterable[str]) -> None:
        """Print lines for people, whatever the mode."""
        for line in lines:
            _say(line if isinstance(line, _Styled) else printable_line(line))

    def note(self, message: str) -> None:
        """Print something that is not a problem; the same only once."""
        self._report("" if self.prefix else "note: ", message, None)

    def warning(self, message: str, hint: str | None = None) -> None:
        """Print something that may be a problem, and the command that solves it; the same only once."""
        self._report(self.styled("warning:", "yellow") + " ", message, hint)

    def error(self, error: ThetaError) -> None:
        """Print an error, its hint, and the command that shows the page about such errors."""
        more = None if error.topic is None else f"git theta help {error.topic}"
        if self.mode == "json":
            hint = None if error.hint is None else redacted(error.hint)
            data = {"schema": 1, "error": redacted(error.message), "hint": hint, "help": more}
            self.say(json.dumps(data | {"exit_code": error.exit_code}))
            return
        self._complain(self.styled("error:", "red") + " ", error.message, error.hint, more)

    def progress(self, label: str, total: int = 0, *, counted: bool = False) -> AbstractContextManager[Progress]:
        """Show the progress of some work to people, as ``cli.progress`` does."""
        if not self.bars or self.mode != "human":
            return nullcontext(no_progress)
        return self._display.progress(label, total, self.prefix, self.say, counted=counted)

    def say(self, text: str) -> None:
        """Print a line on stderr. A closed terminal is not a failure, nor is a descriptor that was never open."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{text}\n")

    def _report(self, label: str, message: str, hint: str | None) -> None:
        if self.mode == "human" and message not in self._reported:
            self._reported.add(message)
            self._complain(label, message, hint)

    def _complain(self, label: str, message: str, hint: str | None, more: str | None = None) -> None:
        lines = [f"{self.prefix}{label}{indented(message)}"]
        if hint:
            lines.append(f"{self.prefix}hint: {indented(hint)}")
        if more:
            lines.append(f"{self.prefix}more: {more}")
        self.say("\n".join(lines))

    def styled(self, text: str, style: Style) -> str:
        """Colour a fixed text if colour is wanted. It is printed as it is, unlike names from files."""
        return _Styled(f"\x1b[{_CODES[style]}m{text}\x1b[m" if self.color else text)


def rendered(line: str) -> str:
    """Return a line that is printed as it is: names in it are printable, and it may hold terminal sequences."""
    return _Styled(line)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--quiet`` to a command that prints a result."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_const", dest="mode", const="json", help="print the result as JSON")
    group.add_argument("-q", "--quiet", action="store_const", dest="mode", const="quiet", help="print errors only")


def output_of(args: argparse.Namespace) -> Output:
    """Return the output that a command line asks for."""
    return Output(getattr(args, "mode", None) or "human", color=wants_color())


def output_to_git(*, bars: bool = True) -> Output:
    """Return the output of a program that git runs, whose lines appear among git's own."""
    return Output("human", color=wants_color(), prefix="git-theta: ", bars=bars)


def wants_color() -> bool:
    """Return whether both streams can be coloured: https://no-color.org, and a terminal that is not dumb."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty() and sys.stderr.isatty()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
