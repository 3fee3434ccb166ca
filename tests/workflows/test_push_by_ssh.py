"""Push and clone through OpenSSH's server, which keeps the parameters in a directory."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from benchmarks.sshd import NoServerError, Sshd, sshd
from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    try:
        with sshd(tmp_path_factory.mktemp("sshd")) as running:
            yield running
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def theta(host: Sshd, shared: Repo, two: Repo, tmp_path: Path) -> Path:
    """Return the directory of the host that a tracked file names as the place of the parameters."""
    two.git("config", "--global", "core.sshCommand", host.command)
    two.write(f"[theta]\n\turl = ssh://theta-host{tmp_path}/theta\n".encode(), ".thetaconfig")
    two.commit("share parameters")
    assert shared.path.is_dir()
    return tmp_path / "theta"


def test_a_clone_needs_no_settings_and_pushes_back(theta: Path, shared: Repo, two: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main", "one")
    assert not (shared.path / "theta" / "packs").exists()
    packs = {path.name for path in (theta / "packs").rglob("*") if path.is_file()}
    assert packs == {path.name for path in (theta / "index").iterdir()} != set()
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    copy = Repo(tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []
    copy.write_model(seed=3)
    copy.commit("three")
    copy.git("push", "--quiet", "origin", "main")
    two.git("pull", "--quiet", "--ff-only", "origin", "main")
    assert two.problems(MODEL, model(3)) == []
    assert not list(theta.rglob("tmp~*"))


def test_a_login_that_is_refused_is_shown_with_a_command_that_tests_it(theta: Path, host: Sshd, two: Repo) -> None:
    two.git("config", "core.sshCommand", host.stranger())
    done = two.run("push", "origin", "main", check=False)
    assert done.returncode
    assert "Permission denied (publickey)" in done.stderr
    assert "the host does not accept the login" in done.stderr
    command = done.stderr.partition("hint: test the connection: ")[2].splitlines()[0]
    shown = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    assert "Permission denied (publickey)" in shown.stderr
    assert not theta.exists()


def test_a_host_key_that_changed_is_not_trusted(theta: Path, host: Sshd, two: Repo) -> None:
    two.git("config", "core.sshCommand", f"{host.command} -o UserKnownHostsFile=/dev/null")
    done = two.run("push", "origin", "main", check=False)
    assert done.returncode
    assert "Host key verification failed" in done.stderr
    assert f"{host.command} -o UserKnownHostsFile=/dev/null -T theta-host" in done.stderr
    assert not theta.exists()
