"""The remote on the LFS server of dulwich: it checks the SHA-256 of uploads, and ignores ranges."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import MissingError, RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACK = os.urandom(300_000)
NAME = hashlib.sha256(PACK).hexdigest()
KEY = f"packs/{NAME[:2]}/{NAME}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    module = pytest.importorskip("dulwich.lfs_server", reason="dulwich is not installed")
    running, address = module.run_lfs_server("127.0.0.1", 0, str(tmp_path / "objects"))
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield address
    running.shutdown()
    running.server_close()


def test_packs_come_back_and_other_bytes_are_refused(url: str, server: str, tmp_path: Path) -> None:
    local, pack, got = tmp_path / "local", tmp_path / "pack", tmp_path / "got"
    subprocess.run(["git", "init", "--quiet", str(local)], check=True)
    subprocess.run(["git", "-C", str(local), "config", "remote.origin.lfsurl", server], check=True)
    remote = open_remote(url, {}, RemoteContext("origin", url, Repository.discover(local)))
    pack.write_bytes(PACK[::-1])
    with pytest.raises(RemoteError, match=r"status 400"):
        remote.put(KEY, pack)
    pack.write_bytes(PACK)
    (tmp_path / "entry").write_bytes(b"an entry")
    assert remote.put(KEY, pack)
    remote.publish({f"index/{NAME}": tmp_path / "entry"})
    assert not remote.put(KEY, pack)
    assert remote.get(KEY, 299_990, 300_000) == PACK[299_990:]
    got.write_bytes(PACK[:100_000])
    remote.fetch(KEY, got, len(PACK))
    assert got.read_bytes() == PACK
    assert remote.keep([KEY]) == {KEY}
    for path in (tmp_path / "objects").rglob(NAME):
        path.unlink()
    with pytest.raises(MissingError):
        remote.get(KEY, 0, 1)
    assert remote.keep([KEY]) == set()
