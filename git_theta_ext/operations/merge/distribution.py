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
from git_theta_ext.operations.distribution import distributed
from git_theta_ext.util.threads import LARGEST_KEPT, keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.merging.execution.journal import Journal
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.operations.merge.inputs import MergeInputs
    from git_theta_ext.operations.workspace import Workspace


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
        ConfigError: ``theta.cluster`` is not valid.
        StoreError: The store cannot be written.
    """
    keep_freed_memory(LARGEST_KEPT)
    key = blake3(os.fsencode(inputs.journal)).hexdigest()
    with distributed(workspace, key) as (workers, area):
        merge = DistributedMerge(workers, workspace.store, area, journal)
        yield Engine(
            workspace.store,
            Devices((Cpu(),)),
            journal,
            inputs.statistics,
            advance,
            announce=announce,
            distributed=merge,
        )
