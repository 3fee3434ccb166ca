"""Run jobs where ``theta.cluster`` says."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.cluster.open import LOCAL, open_workers
from git_theta_ext.store.work_area import WorkArea

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.operations.workspace import Workspace


@contextmanager
def distributed(workspace: Workspace, key: str) -> Iterator[tuple[Workers, WorkArea]]:
    """Give the workers, and the directory where jobs leave packs, which is removed unless the block fails.

    Args:
        workspace: The repository and its store.
        key: As for ``WorkArea``.

    Raises:
        ConfigError: ``theta.cluster`` is not valid.
        StoreError: The store cannot be written.
    """
    store = workspace.store
    area = WorkArea(store, key)
    done = False
    try:
        workers = open_workers(workspace.settings.cluster or LOCAL, area.path, store.threads)
        try:
            yield workers, area
        finally:
            workers.close()
        done = True
    finally:
        area.close(remove=done)
