"""A long history of Git LFS migrates in less time than Git LFS takes to leave itself, and every version comes back."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import Repo, safetensors
from histories import LFS, Stream, changed_metadata, wrong_versions

from git_theta_ext.git.objects import blob_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed"),
]
COMMITS, TENSORS, SHAPE = 200, 24, (192, 192)
"""Each version has 3.5 MB, of which every commit changes a quarter."""


def versions() -> list[bytes]:
    random = np.random.default_rng(1)
    names = [f"layer.{n}.weight" for n in range(TENSORS)]
    values = {name: random.normal(0, 0.02, SHAPE).astype("<f4") for name in names}
    made = []
    for n in range(COMMITS):
        for name in names[n % 4 :: 4]:
            values[name] = values[name] + random.normal(0, 0.0005, SHAPE).astype("<f4")
        made.append(safetensors({name: ("F32", SHAPE, value.tobytes()) for name, value in values.items()}))
    return made


def timed(words: Sequence[str], repo: Repo) -> tuple[float, float]:
    """Run a command and return its wall and its CPU seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(words, cwd=repo.path, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu


def test_two_hundred_commits_of_git_lfs(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    stream, was, parents = Stream(), {}, ()
    for n, data in enumerate(versions()):
        pointer = stream.lfs(data)
        was[blob_id(pointer, "sha1")] = data
        files = {"model.safetensors": pointer, "train.py": b"step = %d\n" % n}
        if not n:
            files[".gitattributes"] = f"*.safetensors {LFS}\n".encode()
        parents = (stream.commit("refs/heads/main", files, parents),)
    repo = stream.write(tmp_path / "repo")
    other = Repo(tmp_path / "other")
    shutil.copytree(repo.path, other.path, symlinks=True)
    other.git("update-index", "-q", "--refresh")
    lfs = timed(["git", "lfs", "migrate", "export", "--everything", "--include=*.safetensors", "--yes"], other)
    shutil.rmtree(other.path)
    include = ["--include", "*.safetensors", "--everything"]
    theta = timed(["git-theta", "migrate", "import", *include], repo)
    stored = sum(path.stat().st_size for path in (repo.path / ".git/theta/packs").rglob("*") if path.is_file())
    figures = {"lfs": lfs, "theta": theta, "bytes": sum(map(len, was.values())), "stored": stored}
    record_property("figures", json.dumps(figures))
    assert repo.git("rev-list", "--count", "main") == str(COMMITS)
    assert changed_metadata(repo) == []
    assert wrong_versions(repo, was) == []
    assert theta[1] < lfs[1], figures
