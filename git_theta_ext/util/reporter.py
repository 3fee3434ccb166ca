"""How code below the commands reports to the user: through an object that is passed in."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.records import dataclass
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    import logging
    from contextlib import AbstractContextManager

    from git_theta_ext.errors import ThetaError


class Progress(Protocol):
    """Counts what is done of some work. Any thread can call it."""

    def __call__(self, nbytes: int, /) -> None:
        """Count bytes, or items, that were done since the last call."""
        ...

    def expect(self, nbytes: int, /) -> None:
        """Add to the total of the work, which may have been unknown before."""
        ...


class Reporter(Protocol):
    """Reports what happens while an operation runs. Methods may be called from any thread."""

    def note(self, message: str) -> None:
        """Report something that is not a problem."""
        ...

    def warning(self, message: str, hint: str | None = None) -> None:
        """Report something that may be a problem, and the command that solves it."""
        ...

    def error(self, error: ThetaError) -> None:
        """Report a failure after which the operation continues with something else."""
        ...

    def progress(self, label: str, total: int = 0, *, counted: bool = False) -> AbstractContextManager[Progress]:
        """Show the progress of some work. Work that begins within it is shown in its place.

        Args:
            label: What is being done.
            total: Its size in bytes; 0 if unknown.
            counted: Whether the size is a number of items instead of bytes.
        """
        ...


@dataclass(frozen=True)
class LogReporter:
    """Reports to Python's logging, as a library does, and shows no progress."""

    log: logging.Logger

    def note(self, message: str) -> None:
        """Log for information."""
        self.log.info(message)

    def warning(self, message: str, hint: str | None = None) -> None:
        """Log a warning, with its hint."""
        self.log.warning("%s; %s" if hint else "%s%s", message, hint or "")

    def error(self, error: ThetaError) -> None:
        """Log an error, with its hint."""
        self.log.error("%s; %s" if error.hint else "%s%s", error.message, error.hint or "")

    def progress(self, label: str, total: int = 0, *, counted: bool = False) -> AbstractContextManager[Progress]:  # noqa: ARG002 - as Reporter
        """Show nothing."""
        return nullcontext(no_progress)
