"""Jobs: parts of some work that can run on any machine, and the interface of what runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from git_theta_ext import errors
from git_theta_ext.errors import ClusterError, ThetaError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

LARGEST_JOB = 1 << 29
"""Bytes that a job reads, unless a single tensor has more. A job that is lost is repeated."""

_SMALLEST_JOB = 1 << 22
_JOBS = 64


@dataclass(frozen=True)
class Job(Generic[Result_co]):
    """A part of some work.

    Attributes:
        run: Does the work: a function of a module with its arguments, as ``functools.partial`` makes it, all of which
            can be pickled. It can be interrupted at any point, and run again, on any machine, also at the same time.
        memory: The most bytes of memory that it takes.
    """

    run: Callable[[], Result_co]
    memory: int


class Workers(Protocol):
    """Runs jobs.

    Attributes:
        threads: Number of threads that a job can use.
    """

    threads: int

    def close(self) -> None:
        """Let the workers go."""

    def gather(self, jobs: Iterable[Job[Result]]) -> Iterator[Result]:
        """Yield the result of each job in order. Some jobs are started ahead of the caller.

        If the caller stops early, jobs that are running are cancelled, or awaited.

        Raises:
            ThetaError: The error of the first job in order that failed.
            ClusterError: The workers cannot run a job.
        """


@dataclass(frozen=True)
class Failure:
    """An error of a job, which travels better than an exception."""

    kind: str
    message: str
    hint: str | None

    def error(self) -> ThetaError:
        """Return the error."""
        kind: type[ThetaError] = getattr(errors, self.kind, ThetaError)
        return kind(self.message, hint=self.hint)


def perform(run: Callable[[], Result], umask: int) -> tuple[Result | None, Failure | None]:
    """Run a job in a process of a worker, and return its result or its error.

    Args:
        run: As in ``Job``.
        umask: The umask of the process that wants the result.
    """
    os.umask(umask)
    try:
        return run(), None
    except ThetaError as error:
        return None, Failure(type(error).__name__, error.message, error.hint)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return None, Failure(ClusterError.__name__, f"on a worker: {place}{error.strerror or error}", None)


def divided(items: Sequence[Item], sizes: Sequence[int]) -> list[list[Item]]:
    """Divide items into those of each job, in order. How they are divided does not depend on the workers.

    Args:
        items: The items.
        sizes: The bytes that are read for each item.
    """
    limit = min(max(_SMALLEST_JOB, sum(sizes) // _JOBS), LARGEST_JOB)
    parts: list[list[Item]] = []
    filled = 0
    for item, size in zip(items, sizes, strict=True):
        if not parts or filled + size > limit:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += size
    return parts
