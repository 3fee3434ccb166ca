"""A git remote on a host with OpenSSH's server, which says by ``git-lfs-authenticate`` where its LFS server is."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from benchmarks.sshd import NoServerError, Sshd, sshd
from helpers import MODEL, Repo, model

from git_theta_ext.errors import RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.lfs_host import LfsHost

AUTHENTICATE = """printf '%s\\n' "$*" >>{log}; cat {answer}"""
LOGIN = "Basic bWU6c2VjcmV0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    try:
        with sshd(tmp_path_factory.mktemp("sshd")) as running:
            yield running
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def address(server: Sshd, host: LfsHost, url: str) -> str:
    """Return the address of a repository on the host with ssh; its LFS server asks for a login."""
    assert url
    host.user = ("me", "secret")
    for name in ("calls", "answer"):
        (server.folder / name).unlink(missing_ok=True)
    authenticate(server, AUTHENTICATE.format(answer=server.folder / "answer", log=server.folder / "calls"))
    return f"theta-host:{host.root}/git/models.git"


def authenticate(server: Sshd, text: str) -> None:
    program = server.folder / "bin" / "git-lfs-authenticate"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def answer(server: Sshd, url: str, login: str = LOGIN) -> None:
    given = {"href": f"{url}/info/lfs", "header": {"Authorization": login}, "expires_in": 600}
    (server.folder / "answer").write_text(json.dumps(given))


@pytest.fixture
def put(server: Sshd, address: str, tmp_path: Path) -> Callable[[bytes], bool]:
    """Return what uploads a pack."""
    local = tmp_path / "local"
    subprocess.run(["git", "init", "--quiet", str(local)], check=True)
    subprocess.run(["git", "-C", str(local), "config", "core.sshCommand", server.command], check=True)
    remote = open_remote(address, {}, RemoteContext("origin", address, Repository.discover(local)))

    def put(data: bytes) -> bool:
        (tmp_path / "pack").write_bytes(data)
        name = hashlib.sha256(data).hexdigest()
        return remote.put(f"packs/{name[:2]}/{name}", tmp_path / "pack")

    return put


def test_the_host_gives_the_address_and_the_login(
    two: Repo, address: str, server: Sshd, host: LfsHost, url: str, tmp_path: Path
) -> None:
    answer(server, url)
    two.git("theta", "install", "--global")
    two.git("config", "--global", "core.sshCommand", server.command)
    two.git("remote", "add", "origin", address)
    two.git("push", "--quiet", "origin", "main")
    assert host.stored()
    Repo(tmp_path).git("clone", "--quiet", address, "clone")
    assert Repo(tmp_path / "clone").problems(MODEL, model(2)) == []
    calls = (server.folder / "calls").read_text().splitlines()
    path = address.partition(":")[2]
    assert calls == [f"{path} upload", f"{path} download"]  # one for the push, one for the clone


def test_a_login_that_is_refused_is_named_and_not_printed(
    server: Sshd, put: Callable[[bytes], bool], host: LfsHost, url: str
) -> None:
    answer(server, url, "Basic bWU6b2xk")
    with pytest.raises(RemoteError, match="does not accept git-lfs-authenticate") as caught:
        put(b"a pack")
    assert "bWU6b2xk" not in f"{caught.value.message} {caught.value.hint}"
    assert host.stored() == set()


def test_a_login_that_expires_early_is_asked_for_again(
    server: Sshd, put: Callable[[bytes], bool], host: LfsHost, url: str
) -> None:
    answer(server, url)
    assert put(b"one")
    host.user = ("me", "another")
    answer(server, url, "Basic bWU6YW5vdGhlcg==")
    assert put(b"two")
    assert len(host.stored()) == 2


def test_a_program_that_fails_is_an_error_with_its_words(server: Sshd, put: Callable[[bytes], bool]) -> None:
    authenticate(server, "echo 'models: the repository is read-only' >&2; exit 1")
    with pytest.raises(RemoteError, match="git-lfs-authenticate failed: models: the repository is read-only"):
        put(b"a pack")
