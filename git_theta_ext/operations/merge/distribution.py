"""Merge in jobs, where ``theta.cluster`` says."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.distributed import DistributedMerge
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.operations.distribution import distributed, distributed_by_remote
from git_theta_ext.store.exchange import SharedStore
from git_theta_ext.util.threads import LARGEST_KEPT, keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.merging.execution.journal import Journal
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.operations.merge.inputs import MergeInputs
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.exchange import Exchange


@contextmanager
def distributed_engine(
    workspace: Workspace,
    inputs: MergeInputs,
    journal: Journal,
    advance: Callable[[int], None],
    announce: Callable[[Budget], None],
) -> Iterator[Engine]:
    """Give an engine that merges in jobs, on CPUs; what they finished is kept for the next run if the block fails.

    Raises:
        ConfigError: ``theta.cluster`` or ``theta.clusterRemote`` is not valid.
        RemoteError: The remote cannot be reached.
        StoreError: The store cannot be written.
    """
    keep_freed_memory(LARGEST_KEPT)
    with _exchanging(workspace, inputs) as (workers, exchange):
        merge = DistributedMerge(workers, exchange, journal)
        yield Engine(
            workspace.store,
            Devices((Cpu(),)),
            journal,
            inputs.statistics,
            advance,
            announce=announce,
            distributed=merge,
        )


@contextmanager
def _exchanging(workspace: Workspace, inputs: MergeInputs) -> Iterator[tuple[Workers, Exchange]]:
    """Give the workers, and the exchange that ``theta.clusterRemote`` says."""
    if (name := workspace.settings.cluster_remote) is not None:
        with distributed_by_remote(workspace, name) as by_remote:
            yield by_remote
        return
    with distributed(workspace, blake3(os.fsencode(inputs.journal)).hexdigest()) as (workers, area):
        yield workers, SharedStore(workspace.store, area)
