"""Run jobs where ``theta.cluster`` says."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.work_area import WorkArea
    from git_theta_ext.transfer.job_exchange import RemoteExchange
    from git_theta_ext.transfer.places import RemotePlace


@contextmanager
def distributed(workspace: Workspace, key: str) -> Iterator[tuple[Workers, WorkArea]]:
    """Give the workers, and the directory where jobs leave packs, which is removed unless the block fails.

    During the block the store has large packs decoded in jobs, too.

    Args:
        workspace: The repository and its store.
        key: As for ``WorkArea``.

    Raises:
        ConfigError: ``theta.cluster`` is not valid.
        StoreError: The store cannot be written.
    """
    from git_theta_ext.cluster.open import LOCAL, open_workers
    from git_theta_ext.cluster.probe import SharedDirectory
    from git_theta_ext.store.verification.jobs import JobExaminer
    from git_theta_ext.store.work_area import WorkArea

    store = workspace.store
    area = WorkArea(store, key)
    done = False
    try:
        workers = open_workers(workspace.settings.cluster or LOCAL, SharedDirectory(area.path), store.threads)
        try:
            with store.examining_by(JobExaminer(workers)):
                yield workers, area
        finally:
            workers.close()
        done = True
    finally:
        area.close(remove=done)


@contextmanager
def workers_if_set(workspace: Workspace) -> Iterator[Workers | None]:
    """Give workers for jobs that write no packs; None if no jobs can use the store. See ``distributed``."""
    if not workspace.settings.shares_store:
        yield None
        return
    with distributed(workspace, os.urandom(16).hex()) as (workers, _):
        yield workers


@contextmanager
def distributed_by_remote(
    workspace: Workspace, name: str, *, bring: bool = False
) -> Iterator[tuple[Workers, RemoteExchange]]:
    """Give the workers, and the exchange through a remote; after the block the remote has all that they made.

    Args:
        workspace: The repository and its store.
        name: Name of the git remote.
        bring: Whether the store gets what they made, too.

    Raises:
        ConfigError: A setting is not valid, or jobs cannot use the remote.
        RemoteError: It cannot be reached.
    """
    from git_theta_ext.operations.sync.remotes import fetch_address, remote_place
    from git_theta_ext.transfer.job_exchange import RemoteExchange

    place = remote_place(workspace, name, fetch_address(workspace.repo, name))
    exchange = RemoteExchange(workspace.store, place, place.opened(workspace.repo), bring=bring)
    with remote_workers(workspace, place) as workers:
        yield workers, exchange
    exchange.close()


@contextmanager
def remote_workers(workspace: Workspace, place: RemotePlace) -> Iterator[Workers]:
    """Give workers for jobs that use a remote instead of the store.

    Raises:
        ConfigError: A setting is not valid, or jobs cannot use the remote.
    """
    from git_theta_ext.cluster.open import LOCAL, open_workers
    from git_theta_ext.transfer.job_exchange import RemoteAccess, check_for_jobs

    check_for_jobs(place)
    workers = open_workers(workspace.settings.cluster or LOCAL, RemoteAccess(place), workspace.store.threads)
    try:
        yield workers
    finally:
        workers.close()
