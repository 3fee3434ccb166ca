"""Open the workers that ``theta.cluster`` names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.cluster.here import LocalWorkers
from git_theta_ext.errors import ConfigError

if TYPE_CHECKING:
    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.cluster.probe import Access

LOCAL = "local"
_ADDRESS = re.compile(r"(ray://)?[A-Za-z0-9._-]+:[0-9]{1,5}|(ray://)?\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}")


def open_workers(setting: str, access: Access, threads: int) -> Workers:
    """Return the workers that ``theta.cluster`` names. Nothing is connected to yet.

    Args:
        setting: The value of the setting.
        access: What all workers have to reach.
        threads: Number of jobs that run at the same time on this machine.

    Raises:
        ConfigError: The setting has another value.
    """
    if setting == LOCAL:
        return LocalWorkers(threads)
    if _ADDRESS.fullmatch(setting) is None:
        raise ConfigError(
            f"theta.cluster is {setting!r}, and not local, ray://HOST:PORT or HOST:PORT",
            hint="git config theta.cluster local",
        )
    from git_theta_ext.cluster.ray_workers import RayWorkers

    return RayWorkers(setting, access)
