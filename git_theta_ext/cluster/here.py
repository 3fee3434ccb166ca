"""Run jobs in threads of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.util.threads import ordered_map, window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_theta_ext.cluster.jobs import Job, Result


class LocalWorkers:
    """Runs jobs in threads; see ``Workers``.

    Args:
        count: Number of jobs that run at the same time.
    """

    threads = 1

    def __init__(self, count: int) -> None:
        self._count = count

    def close(self) -> None:
        """Do nothing."""

    def gather(self, jobs: Iterable[Job[Result]]) -> Iterator[Result]:
        """Yield the result of each job in order; see ``Workers``."""
        from concurrent.futures import ThreadPoolExecutor  # which imports logging

        with ThreadPoolExecutor(self._count) as executor:
            yield from ordered_map(executor, _run, jobs, window(self._count))


def _run(job: Job[Result]) -> Result:
    return job.run()
