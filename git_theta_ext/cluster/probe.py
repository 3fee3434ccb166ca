"""Check the machines of a Ray cluster before anything starts: their version of git theta, and what they can reach."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from git_theta_ext.errors import ClusterError
from git_theta_ext.records import dataclass
from git_theta_ext.util.installer import install_command
from git_theta_ext.util.text import shortlist
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_PATIENCE = 120
"""Seconds after which a machine that does not answer counts as unusable."""


class Access(Protocol):
    """What all machines have to reach."""

    @property
    def subject(self) -> str:
        """What it is, for messages."""

    @property
    def hint(self) -> str:
        """What to do if a machine does not reach it."""

    def checked(self) -> AbstractContextManager[Callable[[], str]]:
        """Give a check for each machine, which can be pickled and returns why the machine fails it, or nothing."""


@dataclass(frozen=True)
class SharedDirectory:
    """A directory that all machines have to read and write under the same path; see ``Access``."""

    path: Path

    @property
    def subject(self) -> str:
        """What it is."""
        return f"the store in {self.path}"

    hint = "put the repository where all machines mount it at the same path, or git config theta.clusterRemote REMOTE"

    @contextmanager
    def checked(self) -> Iterator[Callable[[], str]]:
        """Give the check, which reads a file and writes another one."""
        mark = os.urandom(16).hex()
        (self.path / mark).write_text(mark)
        try:
            yield partial(_examine, str(self.path), mark)
        finally:
            (self.path / mark).unlink(missing_ok=True)


@dataclass(frozen=True)
class Capacity:
    """What a cluster offers.

    Attributes:
        cores: Number of cores of all machines.
        memory: Bytes of memory of the machine that has the most.
    """

    cores: int
    memory: int


def check_nodes(access: Access) -> Capacity:
    """Run a task on each machine of the cluster that this process is connected to, and return what they offer.

    Args:
        access: What all machines have to reach.

    Raises:
        ClusterError: A machine has another version, does not reach it, or does not answer.
    """
    ray: Any = import_module("ray")
    pinned: Any = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    remote = ray.remote(_answer)
    with access.checked() as check:
        answers = [
            remote.options(num_cpus=0, max_retries=1, scheduling_strategy=pinned(node["NodeID"], soft=False)).remote(
                check
            )
            for node in nodes
        ]
        found = _answered(ray, nodes, answers)
    other = [f"{node['NodeManagerHostname']} has {version}" for node, version, _ in found if version != __version__]
    if other:
        raise ClusterError(
            f"every machine needs git theta {__version__}, and {shortlist(other, 3)}",
            hint=install_command("cluster", __version__),
        )
    without = [f"{node['NodeManagerHostname']}: {reason}" for node, _, reason in found if reason]
    if without:
        raise ClusterError(
            f"machines of the cluster cannot use {access.subject}: {shortlist(without, 3)}", hint=access.hint
        )
    resources = [node["Resources"] for node, _, _ in found]
    return Capacity(sum(int(has["CPU"]) for has in resources), max(int(has.get("memory", 0)) for has in resources))


def _answered(ray: Any, nodes: list[Any], answers: list[Any]) -> list[tuple[Any, str, str]]:
    """Return the machines with their answers, without those that the cluster has lost meanwhile.

    Ray lists a machine that is gone until it has missed several heartbeats.
    """
    if answers:
        ray.wait(answers, num_returns=len(answers), timeout=_PATIENCE)
    found = []
    for node, answer in zip(nodes, answers, strict=True):
        answered = _get(ray, answer)
        if not isinstance(answered, ray.exceptions.RayError):
            found.append((node, *answered))
        elif any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node["NodeID"]):
            raise ClusterError(
                f"a machine of the cluster cannot run git theta: {str(answered).strip().splitlines()[-1]}",
                hint=install_command("cluster", __version__),
            ) from answered
    if not found:
        raise ClusterError("no machine of the cluster has a core for jobs", hint="ray start --address ADDRESS")
    return found


def _get(ray: Any, answer: Any) -> Any:
    """Return an answer, or the error instead of it."""
    try:
        return ray.get(answer, timeout=1)
    except ray.exceptions.RayError as error:
        return error


def _answer(check: Callable[[], str]) -> tuple[str, str]:
    return __version__, check()


def _examine(folder: str, mark: str) -> str:
    """Return why this machine cannot use a directory with a file whose name and content is ``mark``."""
    path = Path(folder)
    try:
        if (path / mark).read_text() != mark:
            return "has other files there"
        own = path / f"{mark}-{os.urandom(8).hex()}"
        own.touch()
        own.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""
