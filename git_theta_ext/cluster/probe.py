"""Check the machines of a Ray cluster before anything starts: their version of git theta, and the store's directory."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from git_theta_ext.errors import ClusterError
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import shortlist
from git_theta_ext.version import __version__

_PATIENCE = 120
"""Seconds after which a machine that does not answer counts as unusable."""


@dataclass(frozen=True)
class Capacity:
    """What a cluster offers.

    Attributes:
        cores: Number of cores of all machines.
        memory: Bytes of memory of the machine that has the most.
    """

    cores: int
    memory: int


def check_nodes(folder: Path) -> Capacity:
    """Run a task on each machine of the cluster that this process is connected to, and return what they offer.

    Args:
        folder: A directory that all machines have to share.

    Raises:
        ClusterError: A machine has another version, cannot write to the directory, or does not answer.
    """
    ray: Any = import_module("ray")
    pinned: Any = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise ClusterError("no machine of the cluster has a core for jobs", hint="ray start --address ADDRESS")
    remote = ray.remote(examine)
    mark = os.urandom(16).hex()
    (folder / mark).write_text(mark)
    answers = [
        remote.options(num_cpus=0, max_retries=1, scheduling_strategy=pinned(node["NodeID"], soft=False)).remote(
            str(folder), mark
        )
        for node in nodes
    ]
    try:
        found = ray.get(answers, timeout=_PATIENCE)
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"a machine of the cluster cannot run git theta: {str(error).strip().splitlines()[-1]}",
            hint=f"pip install 'git-theta-ext[cluster]=={__version__}' on each machine",
        ) from error
    finally:
        (folder / mark).unlink(missing_ok=True)
    names = [node["NodeManagerHostname"] for node in nodes]
    other = [f"{name} has {version}" for name, (version, _) in zip(names, found, strict=True) if version != __version__]
    if other:
        raise ClusterError(
            f"this is git theta {__version__}, and {shortlist(other, 3)}",
            hint=f"pip install 'git-theta-ext[cluster]=={__version__}' on each machine",
        )
    without = [f"{name}: {reason}" for name, (_, reason) in zip(names, found, strict=True) if reason]
    if without:
        raise ClusterError(
            f"machines of the cluster cannot use the store in {folder}: {shortlist(without, 3)}",
            hint="put the repository on a file system that all machines mount at the same path",
        )
    resources = [node["Resources"] for node in nodes]
    return Capacity(sum(int(has["CPU"]) for has in resources), max(int(has.get("memory", 0)) for has in resources))


def examine(folder: str, mark: str) -> tuple[str, str]:
    """Return the version of git theta on this machine, and why it cannot use a directory; empty if it can.

    Args:
        folder: The directory.
        mark: Name and content of a file in it.
    """
    path = Path(folder)
    try:
        if (path / mark).read_text() != mark:
            return __version__, "has other files there"
        own = path / f"{mark}-{os.urandom(8).hex()}"
        own.touch()
        own.unlink()
    except OSError as error:
        return __version__, error.strerror or str(error)
    return __version__, ""
