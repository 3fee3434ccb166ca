"""Jobs on a Ray cluster whose machines share an object store and no file system: the same bits as on one machine.

The models have many small tensors, which are stored as bundles, beside large ones.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clusters import CHECKING, COUNTING, PATIENT, RECODING, RayCluster, ray_cluster
from helpers import Repo, WithHistory, safetensors
from kills import end_group, held, unlock
from many_tensors import COUNT, evolution, named
from servers import ID, SECRET

from git_theta_ext.errors import ClusterError
from git_theta_ext.store.packs.format import GATHERED, PART
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.util.libraries import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not is_installed("ray"), reason="ray is not installed: pip install 'git-theta-ext[cluster]'"),
]

FILE = "model.safetensors"
LAYERS = 6
ELEMENTS = 1 << 20
"""Each tensor is 4 MB, as much as a job reads at least."""


@pytest.fixture(scope="module")
def cluster(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Start a cluster of two machines that have the keys of the object store, and cannot see any repository."""
    assert rclone
    hidden = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        keys(patch)
        with ray_cluster(Path(folder), machines=2, hidden=hidden) as started:
            yield started


def keys(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", ID)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect as the cluster was started, and leave manifests in work trees."""
    keys(monkeypatch)
    for name, value in {**PATIENT, "GIT_THETA_SKIP_SMUDGE": "1"}.items():
        monkeypatch.setenv(name, value)


def _write(repo: Repo, seed: int) -> None:
    """Write a model that is large to merge and small to store: most values of a tensor are equal."""
    content = named(evolution(range(COUNT), range(COUNT))[seed - 1])
    for layer in range(LAYERS):
        values = np.full(ELEMENTS, layer, "<f4")
        values[:64] += np.random.default_rng([seed, layer]).normal(size=64)
        content[f"layer.{layer}"] = ("F32", values.shape, values.tobytes())
    repo.write(safetensors(content), FILE)


def _branches(repo: Repo) -> None:
    _write(repo, 1)
    repo.commit("base")
    repo.git("tag", "base")
    for seed, name in ((2, "theirs"), (3, "main")):
        repo.switch("-B", name, "base")
        _write(repo, seed)
        repo.commit(name)


@pytest.fixture
def pushed(rclone: str, tmp_path: Path) -> Callable[..., None]:
    """Return a function that pushes a repository to a git repository, and its tensors to a bucket."""

    def push(repo: Repo, *options: str) -> None:
        repo.git("init", "--quiet", "--bare", str(tmp_path / "host"))
        repo.git("remote", "add", "bucket", str(tmp_path / "host"))
        for key, value in (("url", f"s3://models/{tmp_path.name}"), ("endpoint", rclone), ("region", "us-east-1")):
            repo.git("config", f"theta.remote.bucket.{key}", value)
        repo.git(*options, "push", "--quiet", "--all", "bucket")

    return push


@pytest.fixture
def branches(with_history: WithHistory, pushed: Callable[..., None]) -> Repo:
    """Return a repository whose ``main`` and ``theirs`` changed all of a model, and whose remote is a bucket."""
    repo = with_history(_branches)
    pushed(repo)
    return repo


@pytest.fixture
def elsewhere(branches: Repo, tmp_path: Path) -> Repo:
    """Return a repository with the same branches and without any tensor."""
    place = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", str(branches.path), str(place)], check=True)
    subprocess.run(["rm", "-rf", str(place / ".git/theta")], check=True)
    repo = Repo(place)
    repo.git("checkout", "--quiet", "--force", "--detach")
    repo.write(repo.git("cat-file", "blob", f"HEAD:{FILE}").encode() + b"\n", FILE)
    repo.git("checkout", "--quiet", "main")
    return repo


def options(cluster: RayCluster, method: str) -> list[str]:
    settings = {"merge.method": method, "cluster": cluster.address, "clusterRemote": "bucket"}
    return [word for key, value in settings.items() for word in ("-c", f"theta.{key}={value}")]


def merged(repo: Repo, *settings: str) -> str:
    """Merge, and return the tree."""
    repo.git(*settings, "merge", "--quiet", "--no-edit", "theirs")
    return repo.git("rev-parse", "HEAD^{tree}")


VERSIONS = evolution(range(20, COUNT), range(45), range(3))
"""Of small tensors: gc gathers the parents of the third version, and takes those of the last from bundles."""


def _versions(repo: Repo) -> None:
    """Write versions of a model, of which gc stores the later ones as deltas."""
    values = np.random.default_rng(1).normal(size=1 << 14).astype("<f4")
    for number, version in enumerate(VERSIONS):
        values[number::1000] += 1
        repo.write(safetensors({"layer": ("F32", values.shape, values.tobytes()), **named(version)}), FILE)
        repo.commit(f"version {number}")


def tensors(repo: Repo) -> list[Path]:
    return list((repo.path / ".git/theta").glob("packs/*/*"))


def test_machines_without_a_common_file_system_merge_the_same_bits_though_one_is_lost(
    branches: Repo, elsewhere: Repo, cluster: RayCluster
) -> None:
    cluster.kill_one_machine()
    tree = merged(elsewhere, *options(cluster, "ties"))
    assert cluster.killed_one()
    assert tensors(elsewhere) == []
    assert merged(branches, "-c", "theta.merge.method=ties") == tree
    cluster.add_machine()
    elsewhere.git("push", "--quiet", "bucket", "main")  # needs no tensor: the results are there
    elsewhere.git("theta", "fsck", "--remote", "bucket", "--full")
    used = [path for path in cluster.folder.glob("machine-*/git-theta-job.*") if path.is_dir()]
    assert len(used) <= 1  # of the machine that was lost


def test_a_lost_machine_costs_its_jobs_only_if_the_store_is_shared(branches: Repo, cluster: RayCluster) -> None:
    cluster.kill_one_machine(COUNTING)
    tree = merged(branches, "-c", "theta.merge.method=ties", "-c", f"theta.cluster={cluster.address}")
    assert cluster.killed_one()
    cluster.add_machine()
    branches.git("theta", "fsck", "--full")
    branches.git("reset", "--quiet", "--hard", "main@{1}")
    for path in (branches.path / ".git/theta/merging").glob("models-*"):
        path.unlink()
    assert merged(branches, "-c", "theta.merge.method=ties") == tree


def test_a_merge_that_is_killed_changes_nothing_and_the_next_continues_it(
    branches: Repo, elsewhere: Repo, cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = elsewhere.git("rev-parse", "HEAD^{tree}")
    words = ["git", *options(cluster, "average"), "merge", "--quiet", "--no-edit", "theirs"]
    at = ("git_theta_ext.transfer.job_exchange", "RemoteExchange", "add")
    with held(elsewhere, tmp_path_factory.mktemp("holding"), words, at, 3) as (merging, _):
        end_group(merging)
    cluster.wait_until_idle()
    unlock(elsewhere.path / ".git")
    assert elsewhere.git("rev-parse", "HEAD^{tree}") == before
    assert elsewhere.git("diff", "HEAD", "--stat", "--", FILE) == ""
    (journal,) = (path for path in (elsewhere.path / ".git/theta/merging").iterdir() if path.is_file())
    assert len(list(filter(None, journal.read_text().splitlines()))) >= 2
    assert tensors(elsewhere) == []
    elsewhere.git(*words[1:])
    assert not journal.exists()
    assert merged(branches, "-c", "theta.merge.method=average") == elsewhere.git("rev-parse", "HEAD^{tree}")


def test_machines_check_the_tensors_of_a_remote_though_a_worker_is_killed(elsewhere: Repo, cluster: RayCluster) -> None:
    check = ["theta", "fsck", "--remote", "bucket", "--full"]
    cluster.kill_one_worker(CHECKING)
    assert "has everything" in elsewhere.git(*options(cluster, "average"), *check)
    assert cluster.killed_one()
    assert tensors(elsewhere) == []
    nowhere = ["-c", "theta.cluster=127.0.0.1:1", "-c", "theta.clusterRemote=bucket"]
    refused = elsewhere.run(*nowhere, *check, check=False)
    assert refused.returncode == ClusterError.exit_code
    assert "cannot be reached" in refused.stderr


def test_a_gc_that_is_killed_after_a_machine_removes_nothing_and_the_next_recodes_what_the_remote_has(
    with_history: WithHistory,
    pushed: Callable[..., None],
    cluster: RayCluster,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    repo, plain = with_history(_versions), Repo(tmp_path / "plain")
    pushed(repo, "-c", "theta.chainDepth=0")
    subprocess.run(["cp", "-r", str(repo.path), str(plain.path)], check=True)
    words = ["git", *options(cluster, "average"), "theta", "gc", "--aggressive"]
    before = tensors(repo)
    at = ("git_theta_ext.transfer.job_exchange", "RemoteExchange", "add")
    cluster.kill_one_machine(RECODING)
    with held(repo, tmp_path_factory.mktemp("holding"), words, at, 1) as (collecting, _):
        end_group(collecting)
    assert cluster.killed_one()
    cluster.add_machine()
    cluster.wait_until_idle()
    assert set(before) < set(tensors(repo))
    repo.git(*words[1:])
    plain.git("theta", "gc", "--aggressive")
    assert {path.name for path in tensors(repo)} == {path.name for path in tensors(plain)}
    assert {GATHERED, PART} <= {entry.encoding for path in tensors(repo) for entry in read_pack_header(path).entries}
    repo.git("theta", "fsck", "--full")
    subprocess.run(["rm", "-rf", str(repo.path / ".git/theta")], check=True)
    repo.git("theta", "fsck", "--remote", "bucket", "--full")
