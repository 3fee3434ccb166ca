"""A pack, and the remote on an LFS server that tests push it to."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from servers import silent

from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_plugins.remotes.lfs import Lfs

PACK = os.urandom(300_000)
NAME = hashlib.sha256(PACK).hexdigest()
KEY = f"packs/{NAME[:2]}/{NAME}"


def pointer(name: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {size}\n".encode()


def key_of(data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    return f"packs/{name[:2]}/{name}"


def opened(url: str, local: Path, report: Callable[[str, int], None] = silent, **options: str) -> Lfs:
    return open_remote(url, options, RemoteContext("origin", url, Repository.discover(local), report))


def published(remote: Lfs, pack: Path) -> None:
    remote.put(KEY, pack)
    (pack.parent / "entry").write_bytes(b"an entry")
    remote.publish({f"index/{NAME}": pack.parent / "entry"})
