"""A host with an LFS server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lfs_host import LfsHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LfsHost]:
    """Return a host of git repositories."""
    host = LfsHost(tmp_path / "host")
    yield host
    host.close()


@pytest.fixture
def url(host: LfsHost) -> str:
    """Return the URL of a repository on the host."""
    return host.repository()
