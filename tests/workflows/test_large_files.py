"""Files larger than git likes, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 1_000_000
TENSOR = 60 * MEGABYTE
GIT_LIMIT = 32 << 20
OWN_LIMIT = 512 << 20


def write_checkpoint(path: Path, nbytes: int, seed: int, tensor: int = TENSOR) -> str:
    """Write bfloat16 tensors of some size, none equal to another, without holding them; returns the SHA-256."""
    count = nbytes // tensor
    header = {
        f"layers.{n}.weight": {"dtype": "BF16", "shape": [tensor // 2], "data_offsets": [n * tensor, (n + 1) * tensor]}
        for n in range(count)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    drawn = np.random.default_rng(seed).normal(0, 0.02, tensor // 2).astype("<f4")
    block = (drawn.view("<u4") >> 16).astype("<u2")
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (struct.pack("<Q", len(text)), text, *(np.roll(block, n).data for n in range(count))):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def sha(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@dataclass
class Peaks:
    """The most memory that processes below a command had, in bytes, by program."""

    git: int = 0
    own: int = 0

    def look(self, pid: int) -> None:
        """Take the measure of a process and of all below it."""
        try:
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return
        name = status["Name"].strip()
        kilobytes = {key: int(value.split()[0]) for key, value in status.items() if key.startswith(("Rss", "VmHWM"))}
        if name == "git":
            self.git = max(self.git, 1024 * kilobytes.get("VmHWM", 0))
        elif kilobytes:
            self.own = max(self.own, 1024 * (kilobytes["RssAnon"] + kilobytes["RssShmem"]))
        for child in children:
            self.look(int(child))


def peaks(repo: Repo, *command: str) -> Peaks:
    """Run a git command and return what memory it and its children took; mapped files do not count for ours."""
    measured = Peaks()
    with subprocess.Popen(["git", *command], cwd=repo.path, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            measured.look(process.pid)
            time.sleep(0.01)
    assert process.returncode == 0
    return measured


@pytest.fixture
def roomy(repo: Repo) -> Iterator[Repo]:
    """Return a repository whose folder is removed after the test, and which starts no garbage collection by itself."""
    repo.git("config", "theta.gcAuto", "0")
    yield repo
    shutil.rmtree(repo.path)


def add_and_check_out(repo: Repo, nbytes: int) -> None:
    wanted = write_checkpoint(repo.path / MODEL, nbytes, seed=1)
    added = peaks(repo, "add", MODEL)
    repo.git("commit", "--quiet", "--message", "large")
    (repo.path / MODEL).unlink()
    checked_out = peaks(repo, "checkout", "--", MODEL)
    assert sha(repo.path / MODEL) == wanted
    assert repo.cleans("status") == 0
    for measured in (added, checked_out):
        assert 0 < measured.git < GIT_LIMIT
        assert 0 < measured.own < OWN_LIMIT


def test_memory_of_add_and_checkout_is_bounded(roomy: Repo) -> None:
    add_and_check_out(roomy, 600 * MEGABYTE)


@pytest.mark.soak
def test_memory_of_add_and_checkout_of_two_gigabytes_is_bounded(roomy: Repo) -> None:
    add_and_check_out(roomy, 2040 * MEGABYTE)


def test_diff_of_a_file_over_the_size_that_git_calls_binary(roomy: Repo) -> None:
    roomy.git("config", "core.bigFileThreshold", "40m")  # 512 MiB unless it is set
    write_checkpoint(roomy.path / MODEL, 60 * MEGABYTE, seed=1, tensor=6 * MEGABYTE)
    roomy.git("add", MODEL)
    shown = roomy.git("diff", "--cached")
    assert "layers.0.weight" in shown or "layers.{0-9}.weight" in shown
    assert "Binary files" not in shown
    roomy.git("commit", "--quiet", "--message", "large")
    with (roomy.path / MODEL).open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\x80\x3f")
    (roomy.path / MODEL).chmod(0o755)
    shown = roomy.git("diff")
    assert "layers.9.weight" in shown
    assert "layers.8.weight" not in shown
    assert "Binary files" not in shown


@pytest.mark.soak
@pytest.mark.parametrize("method", ["average", "ties"])
def test_a_checkpoint_larger_than_the_memory_that_may_be_used_merges(roomy: Repo, method: str) -> None:
    limit = 700 * MEGABYTE
    for branch, seed in (("main", 1), ("side", 2), ("main", 3)):
        roomy.git("checkout", "--quiet", *(["-b"] if branch == "side" else []), branch)
        write_checkpoint(roomy.path / MODEL, 1000 * MEGABYTE, seed)
        roomy.commit(branch)
    before = sha(roomy.path / MODEL)
    roomy.run(
        *("-c", f"theta.merge.method={method}", "merge", "--quiet", "side"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert sha(roomy.path / MODEL) != before
    roomy.git("theta", "merge", "--replay")
