"""Jobs on models of many small tensors whose packs are only in a bucket: the same results as with a store."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import Repo, safetensors
from servers import ID, SECRET

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 120


def adapter(seed: int, changed: range) -> bytes:
    draw, moved = np.random.default_rng(1), np.random.default_rng(seed)
    values = [draw.normal(0, 0.02, (4, 32)).astype("<f4") for _ in range(COUNT)]
    for number in changed:
        values[number] = values[number] + moved.normal(0, 1e-5, (4, 32)).astype("<f4")
    return safetensors(
        {f"layers.{number}": ("F32", value.shape, value.tobytes()) for number, value in enumerate(values)}
    )


VERSIONS = {"base": adapter(2, range(0)), "theirs": adapter(3, range(40, COUNT)), "main": adapter(4, range(60))}


@pytest.fixture
def bucket(repo: Repo, rclone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Return a repository whose tensors are in a bucket, and which runs jobs that read them there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    repo.write(VERSIONS["base"])
    repo.commit("base")
    repo.git("tag", "base")
    for name in ("theirs", "main"):
        repo.switch("-B", name, "base")
        repo.write(VERSIONS[name])
        repo.commit(name)
    repo.git("init", "--quiet", "--bare", str(tmp_path / "host"))
    repo.git("remote", "add", "bucket", str(tmp_path / "host"))
    settings = {"url": f"s3://models/{tmp_path.name}", "endpoint": rclone, "region": "us-east-1"}
    for key, value in settings.items():
        repo.git("config", f"theta.remote.bucket.{key}", value)
    repo.git("push", "--quiet", "--all", "bucket")
    repo.git("config", "theta.clusterRemote", "bucket")
    return repo


def forget(repo: Repo) -> None:
    """Remove all packs of a repository."""
    for path in (repo.path / ".git/theta/packs").rglob("*"):
        if path.is_file():
            path.unlink()


def test_small_tensors_are_merged_by_jobs_that_read_them_from_a_bucket(bucket: Repo) -> None:
    merge = ("-c", "theta.merge.method=average", "merge", "--quiet", "--no-edit", "theirs")
    bucket.git("branch", "again")
    bucket.git(*merge)
    expected = bucket.git("rev-parse", "HEAD^{tree}")
    bucket.git("checkout", "--quiet", "again")
    forget(bucket)
    bucket.git("-c", "theta.cluster=local", *merge)
    assert bucket.git("rev-parse", "HEAD^{tree}") == expected
    bucket.git("push", "--quiet", "bucket", "again")
    checked = json.loads(
        bucket.git("-c", "theta.cluster=local", "theta", "fsck", "--remote", "bucket", "--full", "--json")
    )
    assert checked["problems"] == []


def test_bundles_are_recoded_by_jobs_that_read_them_from_a_bucket(bucket: Repo) -> None:
    for _ in range(2):
        bucket.git("-c", "theta.cluster=local", "theta", "gc", "--aggressive")
        bucket.git("theta", "fsck", "--full")
    bucket.git("theta", "prune", "--remote", "bucket")
    for tag, data in VERSIONS.items():
        bucket.git("checkout", "--quiet", tag)
        assert bucket.sha() == hashlib.sha256(data).hexdigest()
