"""Push, clone and pull with a git server and its LFS server, and nothing configured."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from benchmarks.faults import Fault
from benchmarks.lfs_host import LfsHost
from helpers import MODEL, Repo, model
from lfs_packs import opened

from git_theta_ext.errors import CorruptError, MissingError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def work(two: Repo, url: str) -> Repo:
    """Return a repository with two versions whose remote is on the host."""
    two.git("theta", "install", "--global")
    two.git("remote", "add", "origin", url)
    return two


def clone(url: str, place: Path) -> Repo:
    Repo(place.parent).git("clone", "--quiet", url, place.name)
    return Repo(place)


def test_push_clone_and_pull_need_no_configuration(work: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    work.git("push", "--quiet", "origin", "main", "one")
    copy = clone(url, tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []
    copy.git("checkout", "--quiet", "one")
    assert copy.problems(MODEL, model(1)) == []
    assert not (copy.path / ".git" / "shallow").exists()
    before = host.stored()
    work.git("push", "--quiet", "origin", "main:again")
    assert host.stored() == before
    copy.git("checkout", "--quiet", "main")
    copy.write_model(seed=3)
    copy.commit("three")
    sent = len(host.log)
    copy.git("push", "--quiet", "origin", "main")
    uploads = [request for request in host.log[sent:] if request.method == "PUT"]
    assert len(uploads) == len(host.stored() - before)
    work.git("pull", "--quiet", "--ff-only", "origin", "main")
    assert work.problems(MODEL, model(3)) == []


def test_pushing_everything_heals_an_emptied_server(work: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    work.git("push", "--quiet", "origin", "main")
    for path in host.objects.iterdir():
        path.unlink()
    early = Repo(tmp_path / "early")
    assert Repo(tmp_path).run("clone", "--quiet", url, "early").stderr.count("not in the store")
    found = work.run("theta", "fsck", "--remote", "origin", check=False)
    assert found.returncode == MissingError.exit_code
    assert "git theta push --all origin" in found.stderr
    work.git("theta", "push", "--all", "origin")
    assert clone(url, tmp_path / "clone").problems(MODEL, model(2)) == []
    early.git("theta", "checkout")
    assert early.problems(MODEL, model(2)) == []


def test_a_poisoned_object_of_the_right_size_is_found_and_replaced(
    work: Repo, host: LfsHost, url: str, tmp_path: Path
) -> None:
    work.git("push", "--quiet", "origin", "main")
    before = host.stored()
    for name in before:
        data = (host.objects / name).read_bytes()
        (host.objects / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    found = work.run("theta", "fsck", "--full", "--remote", "origin", check=False)
    assert found.returncode == CorruptError.exit_code
    assert "git theta push --all origin" in found.stderr
    work.git("theta", "push", "--all", "origin")
    assert host.stored() & before == before
    host.log.clear()
    assert clone(url, tmp_path / "clone").problems(MODEL, model(2)) == []
    assert not [request for request in host.requests("GET ") if request.path.rpartition("/")[2] in before]
    assert work.git("theta", "fsck", "--full", "--remote", "origin").endswith("has everything")


@pytest.mark.parametrize("by", ["fsck", "fetch"])
def test_the_mark_of_a_pack_that_is_not_damaged_is_removed(
    work: Repo, host: LfsHost, url: str, tmp_path: Path, by: str
) -> None:
    work.git("push", "--quiet", "origin", "main")
    keys = {f"packs/{name[:2]}/{name}" for name in host.stored()}
    opened(url, work.path).mark(keys)
    before = host.stored()
    if by == "fsck":
        assert work.git("theta", "fsck", "--full", "--remote", "origin").endswith("has everything")
        reader = work
    else:
        reader = clone(url, tmp_path / "clone")
        reader.git("checkout", "--quiet", "HEAD~1")
        assert reader.problems(MODEL, model(1)) == []
    assert opened(url, work.path).marked() == keys
    assert reader.git("theta", "push", "--all", "origin").endswith("has everything")
    assert opened(url, work.path).marked() == set()
    assert work.git("theta", "push", "--all", "origin").endswith("has everything")
    assert host.stored() == before


def test_a_push_whose_upload_fails_sends_no_commit(work: Repo, host: LfsHost, url: str) -> None:
    host.faults = [Fault("PUT", 507, times=1000)]
    refused = work.run("push", "origin", "main", check=False)
    assert refused.returncode != 0
    assert "status 507" in refused.stderr
    assert work.git("ls-remote", url) == ""


def test_credentials_come_from_git_and_are_not_printed(work: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    host.user = ("me", "pass word")
    store = tmp_path / "credentials"
    store.write_text(url.replace("http://", "http://me:pass%20word@").rpartition("/")[0] + "\n")
    work.git("config", "--global", "credential.helper", f"store --file={store}")
    work.git("push", "--quiet", "origin", "main")
    assert clone(url, tmp_path / "clone").problems(MODEL, model(2)) == []
    store.write_text(url.replace("http://", "http://me:an%20old%20one@").rpartition("/")[0] + "\n")
    refused = work.run("theta", "push", "--all", "origin", check=False)
    assert "old one" not in refused.stderr + refused.stdout


def test_tokens_of_continuous_integration_are_used(work: Repo, host: LfsHost) -> None:
    host.user = ("x-access-token", "token")
    header = "AUTHORIZATION: Basic eC1hY2Nlc3MtdG9rZW46dG9rZW4="
    work.git("config", f"http.{host.url}/.extraheader", header)
    work.git("push", "--quiet", "origin", "main")
    assert host.stored()


SSH = """#!/bin/sh
for command; do :; done
case "$command" in
git-lfs-authenticate*) [ -f {answer} ] || exit 127; cat {answer}; echo "$command" >> {answer}.log;;
*) exec sh -c "$command";;
esac
"""


@pytest.fixture
def ssh(work: Repo, host: LfsHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the remote one that is reached by ssh; returns the file with the answer of ``git-lfs-authenticate``."""
    program, answer = tmp_path / "ssh", tmp_path / "answer"
    program.write_text(SSH.format(answer=answer))
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    work.git("remote", "set-url", "origin", f"git@127.0.0.1:{host.root}/git/models.git")
    return answer


def test_a_host_with_ssh_says_where_its_server_is(
    work: Repo, host: LfsHost, url: str, ssh: Path, tmp_path: Path
) -> None:
    host.user = ("me", "secret")
    header = {"Authorization": "Basic bWU6c2VjcmV0"}
    ssh.write_text(json.dumps({"href": f"{url}/info/lfs", "header": header, "expires_in": 60}))
    work.git("push", "--quiet", "origin", "main")
    work.git("push", "--quiet", "origin", "main:again")
    logins = ssh.with_name("answer.log").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in logins] == ["upload", "upload"]  # one for each push
    copy = clone(work.git("remote", "get-url", "origin").strip(), tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []


def test_a_host_with_ssh_and_no_server_gets_an_error_with_the_settings_to_make(work: Repo, ssh: Path) -> None:
    assert not ssh.exists()
    refused = work.run("push", "origin", "main", check=False)
    assert refused.returncode != 0
    assert "has no LFS server" in refused.stderr
    assert "git config theta.remote.NAME.url" in refused.stderr


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_mirrors_a_repository_to_another_host(work: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    work.git("push", "--quiet", "origin", "main")
    other = LfsHost(tmp_path / "other")
    try:
        target = other.repository()
        mirror = Repo(tmp_path / "mirror.git")
        Repo(tmp_path).git("clone", "--quiet", "--mirror", url, "mirror.git")
        mirror.git("lfs", "fetch", "--all", "origin")
        mirror.git("push", "--quiet", "--mirror", target)
        mirror.git("lfs", "push", target, "refs/theta/index")
        assert other.stored() == host.stored()
        assert clone(target, tmp_path / "clone").problems(MODEL, model(2)) == []
    finally:
        other.close()


@pytest.mark.parametrize("ranges", [True, False])
def test_one_parameter_of_a_model_costs_its_own_bytes(
    work: Repo, host: LfsHost, url: str, tmp_path: Path, *, ranges: bool
) -> None:
    nbytes = 1 << 20
    offsets = {f"w{n}": [n * nbytes, (n + 1) * nbytes] for n in range(12)}
    parameters = {name: {"dtype": "U8", "shape": [nbytes], "data_offsets": at} for name, at in offsets.items()}
    header = json.dumps(parameters).encode()
    data = len(header).to_bytes(8, "little") + header + os.urandom(12 * nbytes)
    work.write(data)
    work.commit("large")
    work.git("push", "--quiet", "origin", "main")
    host.ranges = ranges
    Repo(tmp_path).git("clone", "--quiet", url, "clone", env={**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"})
    copy = Repo(tmp_path / "clone")
    done = len(host.log)
    dry = json.loads(copy.git("theta", "fetch", "--param", "w[37]", "--dry-run", "--json"))
    copy.git("theta", "fetch", "--param", "w[37]")
    down = sum(request.down for request in host.log[done:] if request.path.startswith("/objects/"))
    assert 2 * nbytes < dry["bytes"] < 2.1 * nbytes
    if ranges:
        assert down == dry["bytes"]
    else:
        assert down > 12 * nbytes
    copy.git("theta", "checkout", MODEL)
    assert copy.read() == data
    assert copy.git("status", "--porcelain") == ""
    assert json.loads(copy.git("theta", "fsck", "--full", "--json"))["problems"] == []
