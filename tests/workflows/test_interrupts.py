"""Ctrl-C, kill -9 and full disks: nothing committed is lost, and the next command goes on."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, WithHistory, model, safetensors
from kills import end_group, unlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOMENTS = [0.05, 0.15, 0.25, 0.4, 0.6, *(pytest.param(n * 0.021, marks=pytest.mark.soak) for n in range(1, 31))]
"""Seconds after which a command is killed: at start-up, in the middle, near its end."""


@cache
def large(seed: int) -> bytes:
    """Return a model of 48 MB, so that there is a middle to be killed in."""
    generator = np.random.default_rng(seed)
    block = generator.normal(0, 0.02, 1 << 20).astype("<f4")
    return safetensors({f"layer.{n}": ("F32", (1 << 20,), np.roll(block, n).tobytes()) for n in range(12)})


def _two_large(repo: Repo) -> None:
    for seed, tag in ((1, "one"), (2, "two")):
        repo.write(large(seed))
        repo.commit(tag)
        repo.git("tag", tag)


@pytest.fixture
def big(with_history: WithHistory) -> Iterator[Repo]:
    """Return a repository with two versions of a large model, tagged ``one`` and ``two``."""
    repo = with_history(_two_large)
    yield repo
    shutil.rmtree(repo.path)


def stop(repo: Repo, *command: str, after: float | Callable[[], bool], how: signal.Signals) -> None:
    """Start a git command and send it and all its children a signal after a time, or when something holds."""
    process = subprocess.Popen(
        ["git", *command], cwd=repo.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    if callable(after):
        while process.poll() is None and not after() and time.monotonic() < deadline:
            time.sleep(0.001)
    else:
        time.sleep(after)
    end_group(process, how)
    unlock(repo.path / ".git")


def test_interrupted_populate_is_resumed_by_theta_checkout(big: Repo) -> None:
    pending = big.path / ".git" / "theta" / "pending"
    stop(big, "checkout", "--quiet", "one", after=pending.exists, how=signal.SIGINT)
    big.git("theta", "checkout")
    assert big.git("rev-parse", "HEAD") == big.git("rev-parse", "one^{commit}")
    assert big.problems(MODEL, large(1)) == []
    assert not pending.exists()


def test_interrupted_populate_is_resumed_by_the_next_git_command_that_filters(big: Repo) -> None:
    pending = big.path / ".git" / "theta" / "pending"
    stop(big, "checkout", "--quiet", "one", after=pending.exists, how=signal.SIGINT)
    big.write_model("other.safetensors", seed=3)
    big.git("add", "other.safetensors")
    assert big.read() == large(1)
    assert not pending.exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_during_checkout(big: Repo, moment: float) -> None:
    stop(big, "checkout", "--quiet", "--force", "one", after=moment, how=signal.SIGKILL)
    big.git("theta", "fsck")
    big.git("checkout", "--quiet", "--force", "one")
    big.git("theta", "checkout")
    assert big.problems(MODEL, large(1)) == []
    big.git("checkout", "--quiet", "two")
    assert big.problems(MODEL, large(2)) == []
    assert [path.name for path in big.path.iterdir() if path.name.startswith((".model", "model"))] == [MODEL]


@pytest.mark.parametrize("command", [("add", MODEL), ("theta", "add", MODEL)], ids=" ".join)
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_during_add(big: Repo, command: tuple[str, ...], moment: float) -> None:
    third = large(3)
    big.write(third)
    stop(big, *command, after=moment, how=signal.SIGKILL)
    assert big.read() == third
    big.git("theta", "fsck")
    big.git(*command)
    big.git("commit", "--quiet", "--message", "three")
    for commit, data in (("one", large(1)), ("main", third)):
        big.git("checkout", "--quiet", commit)
        assert big.problems(MODEL, data) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_during_push(big: Repo, shared: Repo, tmp_path: Path, moment: float) -> None:
    stop(big, "push", "--quiet", "origin", "main", "one", after=moment, how=signal.SIGKILL)
    unlock(shared.path)
    big.git("push", "--quiet", "origin", "main", "one")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    copy = Repo(tmp_path / "clone")
    assert copy.problems(MODEL, large(2)) == []
    copy.git("checkout", "--quiet", "one")
    assert copy.problems(MODEL, large(1)) == []
    shutil.rmtree(copy.path)


@pytest.mark.parametrize("command", [("add", MODEL), ("theta", "add", MODEL)], ids=" ".join)
def test_full_disk_during_add_is_a_clear_error_and_harms_nothing(big: Repo, command: tuple[str, ...]) -> None:
    third = large(3)
    big.write(third)
    done = limited(big, 1 << 20, *command)
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert big.read() == third
    big.git("theta", "fsck")
    big.git(*command)
    big.git("commit", "--quiet", "--message", "three")
    big.git("checkout", "--quiet", "one")
    assert big.problems(MODEL, large(1)) == []


def test_full_disk_during_checkout_leaves_the_manifest_and_goes_on_later(big: Repo) -> None:
    done = limited(big, 1 << 20, "checkout", "--quiet", "one")
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert big.read(MODEL)[:21] == b"git-theta manifest 1\n", done.stderr
    big.git("theta", "checkout")
    assert big.problems(MODEL, large(1)) == []


def limited(repo: Repo, nbytes: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run git where no file may grow beyond a size, which fails as a full disk does."""
    return subprocess.run(
        ["git", *command],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes)),
        ),
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB; skips where that is not allowed."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs rights that this user has not")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_disk_that_is_really_full(small_disk: Path, template: Path) -> None:
    shutil.copytree(template, small_disk / "repo", symlinks=True)
    repo = Repo(small_disk / "repo")
    repo.write_model(seed=1)
    repo.commit("one")
    noise = np.random.default_rng(0).bytes(3 << 20)
    halves = {name: ("U8", (len(part),), part) for name, part in (("v", noise), ("w", noise[::-1]))}
    repo.write(safetensors(halves), "new.safetensors")
    done = repo.run("add", "new.safetensors", check=False)
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    (repo.path / "new.safetensors").unlink()
    repo.git("theta", "fsck")
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--", MODEL)
    assert repo.problems(MODEL, model(1)) == []
