"""A reporter that remembers what it is given."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.errors import ThetaError


class Done(list[int]):
    """A ``Progress`` that remembers what it is given."""

    expected = 0

    def __call__(self, nbytes: int) -> None:
        self.append(nbytes)

    def expect(self, nbytes: int) -> None:
        self.expected += nbytes


class Reports:
    """What an operation reported: lines as the user would see them, and bytes done by label."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: dict[str, tuple[int, int]] = {}

    def note(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str, hint: str | None = None) -> None:
        self.lines += [f"warning: {message}", *([f"hint: {hint}"] if hint else [])]

    def error(self, error: ThetaError) -> None:
        self.lines += [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]

    @contextmanager
    def progress(self, label: str, total: int = 0, *, counted: bool = False) -> Iterator[Done]:
        done = Done()
        yield done
        if done:
            self.done[label] = total + done.expected, sum(done)
