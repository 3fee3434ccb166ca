"""Run jobs on the machines of a Ray cluster (https://docs.ray.io)."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_theta_ext.cluster.jobs import perform
from git_theta_ext.cluster.probe import Capacity, check_nodes
from git_theta_ext.errors import ClusterError
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_theta_ext.cluster.jobs import Failure, Job, Result
    from git_theta_ext.cluster.probe import Access

_RETRIES = 3
"""How often a job is repeated if its worker ends."""

_PATIENCE = 10
"""Seconds after which a machine that does not answer counts as one that cannot be reached."""

_AHEAD = 4
"""Jobs that are submitted ahead of the caller, for each that can run at the same time."""


class RayWorkers:
    """Runs jobs as tasks of Ray; see ``Workers``. Connects when the first job is run.

    A job takes one core, and memory as it says, so that Ray starts only as many on a machine as fit there.

    Args:
        address: Address of the cluster, as ``ray.init`` takes it.
        access: What all workers have to reach.
        together: The largest number of jobs that run at the same time; 0 for as many as the cluster has cores.
    """

    threads = 1

    def __init__(self, address: str, access: Access, together: int = 0) -> None:
        self._address = address
        self._access = access
        self._together = together
        self._library: Any = None
        self._capacity = Capacity(0, 0)

    def gather(self, jobs: Iterable[Job[Result]]) -> Iterator[Result]:
        """Yield the result of each job in order; see ``Workers``."""
        self._connect()
        ray = self._library
        remote = ray.remote(perform)
        mask = os.umask(0)
        os.umask(mask)
        pending: deque[Any] = deque()
        running: list[Any] = []
        try:
            for job in jobs:
                while self._together and len(running) >= self._together:
                    _, running = ray.wait(running)
                if job.memory > self._capacity.memory:  # Ray would wait for such a machine
                    needs, has = (f"{size / 1e9:.1f} GB" for size in (job.memory, self._capacity.memory))
                    raise ClusterError(
                        f"a job needs {needs} of memory, and no machine of the cluster has more than {has}",
                        hint="git config theta.cluster local",
                    )
                options = {"num_cpus": self.threads, "memory": job.memory, "max_retries": _RETRIES}
                pending.append(remote.options(**options).remote(job.run, mask))
                running = [*running, pending[-1]] if self._together else []
                if len(pending) >= _AHEAD * (self._together or self._capacity.cores):
                    yield _result(ray.get(pending[0]))
                    pending.popleft()
            while pending:
                yield _result(ray.get(pending[0]))
                pending.popleft()
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"the cluster at {self._address} cannot run a job: {_first_line(error)}",
                hint="ray status shows the machines of the cluster; git config theta.cluster local computes here",
            ) from error
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Disconnect."""
        if self._library is not None:
            self._library.shutdown()
            self._library = None

    def _connect(self) -> None:
        if self._library is not None:
            return
        require("ray", f"theta.cluster {self._address}")
        ray = import_module("ray")
        host, _, port = self._address.removeprefix("ray://").rpartition(":")
        try:
            # Ray itself tries for many minutes.
            socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (ValueError, RuntimeError, OSError) as error:
            raise ClusterError(
                f"the cluster at {self._address} cannot be reached: {_first_line(error)}",
                hint="git config theta.cluster ADDRESS names another one, and local computes on this machine",
            ) from error
        self._library = ray
        self._capacity = check_nodes(self._access)


def _result(answer: tuple[Result, Failure | None]) -> Result:
    result, failure = answer
    if failure is not None:
        raise failure.error()
    return result


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
