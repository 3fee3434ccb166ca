"""Machines of a cluster are checked before jobs start, and those that are lost meanwhile do not count."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from git_theta_ext.cluster.probe import Capacity, SharedDirectory, check_nodes
from git_theta_ext.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class RayError(Exception):
    pass


class Ray:
    """What the check uses of Ray: machines that answer at once, are lost when they are asked, or fail."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, **machines: str) -> None:
        self.machines = machines
        self.lost: set[str] = set()

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": name,
                "NodeManagerHostname": name,
                "Alive": name not in self.lost,
                "Resources": {"CPU": 2.0, "memory": 100.0},
            }
            for name in self.machines
        ]

    def remote(self, function: Callable[..., Any]) -> Any:
        def options(*, scheduling_strategy: str, **_: object) -> Any:
            return SimpleNamespace(remote=lambda check: (scheduling_strategy, function, check))

        return SimpleNamespace(options=options)

    def wait(self, answers: list[Any], **_: object) -> None:
        self.lost = {name for name, _, _ in answers if self.machines[name] == "lost"}

    def get(self, answer: Any, **_: object) -> Any:
        name, function, check = answer
        if self.machines[name] != "well":
            raise RayError(f"long story\n{name} does not answer")
        return function(check)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def start(**machines: str) -> None:
        monkeypatch.setitem(sys.modules, "ray", Ray(**machines))
        strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda name, **_: name)
        monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)

    return start


def test_cores_of_all_machines_and_the_memory_of_the_largest_count(
    cluster: Callable[..., None], tmp_path: Path
) -> None:
    cluster(one="well", two="well")
    assert check_nodes(SharedDirectory(tmp_path)) == Capacity(4, 100)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_is_lost_while_it_is_asked_is_left_out(cluster: Callable[..., None], tmp_path: Path) -> None:
    cluster(one="well", two="lost")
    assert check_nodes(SharedDirectory(tmp_path)) == Capacity(2, 100)


def test_a_machine_that_is_there_and_fails_is_an_error(cluster: Callable[..., None], tmp_path: Path) -> None:
    cluster(one="well", two="fails")
    with pytest.raises(ClusterError, match="cannot run git theta: two does not answer"):
        check_nodes(SharedDirectory(tmp_path))


def test_a_cluster_without_machines_is_an_error(cluster: Callable[..., None], tmp_path: Path) -> None:
    cluster(one="lost")
    with pytest.raises(ClusterError, match="no machine of the cluster has a core"):
        check_nodes(SharedDirectory(tmp_path))
    cluster()
    with pytest.raises(ClusterError, match="no machine of the cluster has a core"):
        check_nodes(SharedDirectory(tmp_path))
