"""Lock checkpoints on an LFS server, as two users and with git-lfs beside."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from benchmarks.lfs_host import LfsHost
from helpers import MODEL, Repo

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

LOCKED_AT = "2026-11-29T10:00:00Z"


def address(url: str, user: str) -> str:
    """Return the URL with which a user works."""
    return url.replace("http://", f"http://{user}:pw@")


@pytest.fixture
def work(two: Repo, host: LfsHost, url: str) -> Repo:
    """Return Ada's repository, whose remote is on a host where Bob works as well."""
    host.user, host.others = ("ada", "pw"), {"bob": "pw"}
    two.git("remote", "add", "origin", address(url, "ada"))
    return two


def locks(repo: Repo, *words: str) -> list[dict[str, object]]:
    answer = json.loads(repo.git("theta", "locks", "--json", *words))
    assert answer["schema"] == 1
    return list(answer["locks"])


def refused(repo: Repo, *words: str, code: int = 16) -> str:
    done: subprocess.CompletedProcess[str] = repo.run(*words, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def test_a_push_that_changes_a_file_locked_by_another_user_uploads_nothing(work: Repo, host: LfsHost, url: str) -> None:
    host.locks.lock(MODEL, "bob", at=LOCKED_AT)
    words = refused(work, "push", "origin", "main", code=1)
    assert f"{MODEL}, locked by bob since {LOCKED_AT}" in words
    assert f"git theta unlock --force {MODEL}" in words
    assert not host.stored()
    assert not host.requests("/batch")
    assert "locked by bob" in refused(work, "push", "--dry-run", address(url, "ada"), "main", code=1)
    work.git("theta", "unlock", "--force", MODEL)
    work.git("theta", "lock", MODEL)
    done = work.run("push", "origin", "main")
    assert f"git theta unlock {MODEL}" in done.stderr
    assert host.stored()


def test_a_locked_file_is_unlocked_when_its_changes_are_committed(work: Repo, host: LfsHost) -> None:
    assert work.git("theta", "lock", MODEL) == f"{MODEL}: locked"
    assert host.locks.held() == {MODEL: "ada"}
    assert "already" in work.git("theta", "lock", MODEL)
    work.write_model(seed=3)
    assert "not committed" in refused(work, "theta", "unlock", MODEL, code=3)
    work.commit("three")
    assert "are not on origin yet" in work.run("theta", "unlock", MODEL).stderr
    assert host.locks.held() == {}
    assert "not locked" in refused(work, "theta", "unlock", MODEL, code=2)


def test_all_files_are_locked_or_none(work: Repo, host: LfsHost) -> None:
    for name in "abc":
        work.write_model(f"parts/{name}.safetensors", seed=7)
    work.commit("parts")
    host.locks.lock("parts/c.safetensors", "bob", at=LOCKED_AT)
    words = refused(work, "theta", "lock", "parts")
    assert f"parts/c.safetensors, locked by bob since {LOCKED_AT}" in words
    below = Repo(work.path / "parts")
    assert below.git("theta", "locks").startswith("c.safetensors  bob")
    assert ": c.safetensors, locked by bob" in refused(below, "theta", "lock", "c.safetensors")
    assert below.git("theta", "lock", f"../{MODEL}") == f"../{MODEL}: locked"
    assert below.git("theta", "unlock", f"../{MODEL}") == f"../{MODEL}: unlocked"
    assert host.locks.held() == {"parts/c.safetensors": "bob"}
    assert "locked by bob" in refused(work, "theta", "unlock", "parts/c.safetensors")
    work.git("theta", "unlock", "--force", "parts/c.safetensors")
    work.git("theta", "lock", "parts", MODEL)
    assert len(host.locks.held()) == 4
    work.git("theta", "unlock", "parts")
    assert host.locks.held() == {MODEL: "ada"}


def test_the_first_of_several_addresses_with_locks_is_used(work: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    work.git("init", "--quiet", "--bare", str(tmp_path / "mirror.git"))
    with closing(LfsHost(tmp_path / "plain")) as plain:
        plain.locks.supported = False
        for first in (str(tmp_path / "mirror.git"), str(tmp_path / "nothing.git"), plain.repository()):
            work.git("remote", "set-url", "--add", "--push", "origin", first)
        assert "has no locks" in refused(work, "theta", "lock", MODEL, code=9)
        for user in ("ada", "bob"):
            work.git("remote", "set-url", "--add", "--push", "origin", address(url, user))
        done = work.run("theta", "lock", MODEL)
    assert f"origin has 5 addresses to push to; these are the locks of {url}" in done.stderr
    assert "pw" not in done.stderr
    assert host.locks.held() == {MODEL: "ada"}


def test_locks_are_listed(work: Repo, host: LfsHost) -> None:
    host.locks.page = 2
    for number in range(5):
        host.locks.lock(f"{number}.pt", "bob" if number % 2 else "ada", at=LOCKED_AT)
    assert [lock["path"] for lock in locks(work)] == [f"{number}.pt" for number in range(5)]
    assert len(locks(work, "--limit", "3")) == 3
    one = {"id": "lock-2", "path": "1.pt", "owner": "bob", "locked_at": LOCKED_AT}
    assert locks(work, "--path", "1.pt") == locks(work, "--id", "lock-2") == [one]
    assert [lock["path"] for lock in locks(work, "--verify") if lock["ours"]] == ["0.pt", "2.pt", "4.pt"]
    assert f"  1.pt  bob  {LOCKED_AT}  lock-2" in work.git("theta", "locks", "--verify").splitlines()
    work.git("theta", "unlock", "--id", "lock-1")
    assert "0.pt" not in host.locks.held()


def test_a_server_that_keeps_the_locks_of_refs_apart_learns_the_ref(work: Repo, host: LfsHost) -> None:
    host.locks.by_ref = True
    work.git("theta", "lock", MODEL)
    work.git("config", "branch.main.remote", "origin")
    work.git("config", "branch.main.merge", "refs/heads/release")
    work.git("theta", "lock", MODEL)
    assert [ref for _, ref in host.locks.table] == ["refs/heads/main", "refs/heads/release"]
    work.git("theta", "unlock", MODEL)
    assert [ref for _, ref in host.locks.table] == ["refs/heads/main"]


def test_a_remote_without_locks_says_what_has_them(work: Repo, tmp_path: Path) -> None:
    work.git("config", "theta.remote.origin.url", str(tmp_path / "store"))
    assert "Git LFS servers have locks" in refused(work, "theta", "lock", MODEL, code=2)


def test_a_server_without_locking_api_is_an_error_of_commands(work: Repo, host: LfsHost) -> None:
    host.locks.supported = False
    for words in (["locks"], ["locks", "--verify"], ["unlock", MODEL], ["lock", MODEL]):
        assert "has no locks" in refused(work, "theta", *words, code=9)


def test_names_from_a_hostile_server_cannot_control_the_terminal(work: Repo, host: LfsHost) -> None:
    host.locks.lock(MODEL, "bob\x1b[2J\nerror: forged", at="\x1b]0;x\x07")
    for words in (["push", "origin", "main"], ["theta", "lock", MODEL], ["theta", "locks"]):
        done = work.run(*words, check=False)
        assert "\x1b" not in done.stdout + done.stderr
        assert "\nerror: forged" not in done.stdout + done.stderr
        assert "bob\\x1b[2J error: forged" in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_and_git_theta_see_the_same_locks(work: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    bob = Repo(tmp_path / "bob")
    Repo(tmp_path).git("clone", "--quiet", address(url, "bob"), "bob")
    bob.write(b"x")
    bob.git("lfs", "lock", MODEL)
    assert host.locks.held() == {MODEL: "bob"}
    assert [lock["owner"] for lock in locks(work)] == ["bob"]
    assert f"{MODEL}, locked by bob" in refused(work, "theta", "lock", MODEL)
    bob.git("lfs", "unlock", "--force", MODEL)
    work.git("theta", "lock", MODEL)
    assert "ada" in bob.git("lfs", "locks", "--verify")
    held = json.loads(bob.git("lfs", "locks", "--verify", "--json"))
    assert [lock["owner"]["name"] for lock in held["theirs"]] == ["ada"]
    assert bob.run("lfs", "lock", MODEL, check=False).returncode != 0
    assert bob.run("lfs", "unlock", "--force", MODEL).returncode == 0
    assert host.locks.held() == {}
