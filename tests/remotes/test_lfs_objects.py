"""Objects that git-lfs has uploaded are fetched from its server, and a history of them migrates without git-lfs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from benchmarks.faults import Fault
from histories import copy_of, lfs_history, wrong_versions

from git_theta_ext.errors import CorruptError, MissingError, RemoteTimeoutError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext, WantedObject
from git_theta_plugins.remotes.lfs import open_objects

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.lfs_host import LfsHost

    from git_theta_ext.interfaces import ObjectServer

DATA = os.urandom(300_000)
pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def server(url: str, tmp_path: Path) -> ObjectServer:
    """Return the server of a new repository."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "local")], check=True)
    return open_objects(RemoteContext("origin", url, Repository.discover(tmp_path / "local")))


def stored(host: LfsHost, tmp_path: Path, data: bytes) -> WantedObject:
    name = hashlib.sha256(data).hexdigest()
    (host.objects / name).write_bytes(data)
    return WantedObject(name, len(data), tmp_path / name)


def test_many_objects_are_asked_for_together(host: LfsHost, server: ObjectServer, tmp_path: Path) -> None:
    wanted = [stored(host, tmp_path, f"object {number}".encode()) for number in range(130)]
    lost = WantedObject("0" * 64, 5, tmp_path / "lost")
    done: list[int] = []
    results = list(server.fetch([*wanted, lost], done.append))
    assert [one for one, error in results if error is None] == wanted
    assert isinstance(results[-1][1], MissingError)
    assert sum(done) == sum(one.nbytes for one in wanted)
    assert all(hashlib.sha256(one.path.read_bytes()).hexdigest() == one.oid for one in wanted)
    assert len(host.requests("POST .*/batch")) == 2


def test_a_download_is_resumed_and_verified(host: LfsHost, server: ObjectServer, tmp_path: Path) -> None:
    wanted = stored(host, tmp_path, DATA)
    wanted.path.write_bytes(DATA[:100_000])
    host.faults = [Fault("GET /objects", cut_down=50_000)]
    done: list[int] = []
    assert list(server.fetch([wanted], done.append)) == [(wanted, None)]
    assert wanted.path.read_bytes() == DATA
    assert sum(done) == len(DATA)
    assert sum(request.down for request in host.requests("GET /objects")) < len(DATA) - 90_000
    wanted.path.write_bytes(b"x" + DATA[1:200_000])
    assert list(server.fetch([wanted], done.append)) == [(wanted, None)]
    assert wanted.path.read_bytes() == DATA
    (host.objects / wanted.oid).write_bytes(bytes(len(DATA)))
    wanted.path.unlink()
    [(_, error)] = server.fetch([wanted], done.append)
    assert isinstance(error, CorruptError)
    assert not wanted.path.exists()


def test_a_server_that_stays_silent_is_given_up_once(host: LfsHost, server: ObjectServer, tmp_path: Path) -> None:
    wanted = [stored(host, tmp_path, bytes([number])) for number in range(20)]
    host.faults = [Fault("POST .*/batch", 503, times=100)]
    with pytest.raises(RemoteTimeoutError):
        list(server.fetch(wanted, lambda _: None))
    assert len(host.requests("POST .*/batch")) == 6


def test_a_history_migrates_whose_objects_two_servers_have(host: LfsHost, url: str, tmp_path: Path) -> None:
    repo, was = copy_of(lfs_history, tmp_path / "repo")
    repo.git("config", "--unset-all", "filter.lfs.process")
    objects = [path for path in (repo.path / ".git/lfs/objects").rglob("*") if path.is_file()]
    for path in objects[1:]:
        path.rename(host.objects / path.name)
    repo.git("init", "--quiet", "--bare", str(tmp_path / "other.git"))
    beside = tmp_path / "other.git/lfs/objects" / objects[0].relative_to(repo.path / ".git/lfs/objects")
    beside.parent.mkdir(parents=True)
    objects[0].rename(beside)
    repo.git("remote", "add", "origin", url)
    command = ("theta", "migrate", "import", "--include", "*.safetensors", "--everything")
    before = repo.git("for-each-ref")
    done = repo.run(*command, check=False)
    assert done.returncode == 7
    assert f"origin: object {objects[0].name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert repo.git("for-each-ref") == before
    repo.git("remote", "add", "other", str(tmp_path / "other.git"))
    data = json.loads(repo.git(*command, "--json"))
    assert (data["versions"], data["left"]) == (7, [])
    assert wrong_versions(repo, was) == []
