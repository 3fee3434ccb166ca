"""Jobs on a Ray cluster: the same bits as on one machine, also if a worker or the process that wants them is killed.

The models have many small tensors, which are stored as bundles, beside large ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clusters import DECODING, HASHING, PATIENT, RECODING, WRITING, RayCluster, ray_cluster
from helpers import MODEL, Repo, WithHistory, copy_repository, safetensors
from kills import end_group, held, unlock
from many_tensors import COUNT, evolution, named

from git_theta_ext.store.packs.format import GATHERED, PART
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.util.libraries import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not is_installed("ray"), reason="ray is not installed: pip install 'git-theta-ext[cluster]'"),
]

SHARDS = [f"model-{n}-of-00002.safetensors" for n in ("00001", "00002")]
INDEX = "model.safetensors.index.json"
ELEMENTS = 1 << 20
"""Each tensor is 4 MB, as much as a job reads at least."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Start a cluster."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder, ray_cluster(Path(folder)) as started:
        yield started


@pytest.fixture(autouse=True)
def ray_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect as the cluster was started."""
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)


def _write(repo: Repo, seed: int) -> None:
    """Write a model in two files that is large to merge and small to store: most values of a tensor are equal."""
    names = {}
    for number, file in enumerate(SHARDS):
        content = {}
        if number:
            content |= named(evolution(range(COUNT), range(COUNT))[seed - 1])
        for layer in range(4 * number, 4 * number + 4):
            values = np.full(ELEMENTS, layer, "<f4")
            values[:64] += np.random.default_rng([seed, layer]).normal(size=64)
            content[f"layer.{layer}"] = ("F32", values.shape, values.tobytes())
        repo.write(safetensors(content), f"model/{file}")
        names |= dict.fromkeys(content, file)
    repo.write(json.dumps({"metadata": {}, "weight_map": names}).encode(), f"model/{INDEX}")


def _branches(repo: Repo) -> None:
    _write(repo, 1)
    repo.commit("base")
    repo.git("tag", "base")
    for seed, name in ((2, "theirs"), (3, "main")):
        repo.switch("-B", name, "base")
        _write(repo, seed)
        repo.commit(name)


@pytest.fixture
def branches(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main`` and ``theirs`` changed all of a model in two files."""
    return with_history(_branches)


def tree(repo: Repo) -> str:
    return repo.git("rev-parse", "HEAD^{tree}")


def merge(repo: Repo, method: str, cluster: str | None = None) -> str:
    """Merge, undo the merge, and return the tree that it made."""
    options = ["-c", f"theta.merge.method={method}", *(["-c", f"theta.cluster={cluster}"] if cluster else [])]
    repo.git(*options, "merge", "--quiet", "--no-edit", "theirs")
    merged = tree(repo)
    repo.git("reset", "--quiet", "--hard", "main@{1}")
    return merged


def left(repo: Repo) -> list[str]:
    """Return what a merge has left behind in the store."""
    return [path.name for path in (repo.path / ".git/theta/tmp").iterdir()]


def test_a_merge_is_the_same_if_a_worker_is_killed(branches: Repo, cluster: RayCluster) -> None:
    cluster.kill_one_worker()
    merged = merge(branches, "ties", cluster.address)
    assert cluster.killed_one()
    branches.git("-c", f"theta.cluster={cluster.address}", "theta", "fsck", "--full")
    assert left(branches) == []
    forget(branches)
    assert merge(branches, "ties") == merged


def test_a_merge_that_is_killed_changes_nothing_and_the_next_continues_it(
    branches: Repo, cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = tree(branches)
    words = ["git", "-c", f"theta.cluster={cluster.address}", "merge", "--quiet", "--no-edit", "theirs"]
    at = ("git_theta_ext.store.work_area", "WorkArea", "add")
    with held(branches, tmp_path_factory.mktemp("holding"), words, at, 2) as (merging, _):
        end_group(merging)
    cluster.wait_until_idle()
    unlock(branches.path / ".git")
    assert tree(branches) == before
    assert branches.git("diff", "HEAD", "--stat", "--", "model") == ""
    finished = next((branches.path / ".git/theta/tmp").glob("*.work/done"))
    assert len(list(finished.iterdir())) >= 2
    branches.git(*words[1:])
    assert left(branches) == []
    merged = tree(branches)
    branches.git("theta", "fsck")
    branches.git("reset", "--quiet", "--hard", "main@{1}")
    forget(branches)
    assert merge(branches, "average") == merged


def test_a_merge_that_lost_the_head_of_the_cluster_changes_nothing_and_the_next_continues_it(
    branches: Repo, cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = tree(branches)
    at = ("git_theta_ext.store.work_area", "WorkArea", "add")
    with tempfile.TemporaryDirectory(prefix="ray") as folder, ray_cluster(Path(folder)) as lost:
        words = ["git", "-c", f"theta.cluster={lost.address}", "merge", "--quiet", "--no-edit", "theirs"]
        with held(branches, tmp_path_factory.mktemp("holding"), words, at, 2) as (merging, driver):
            lost.kill_head()
            os.kill(driver, signal.SIGKILL)  # as Ray does after a minute
            assert merging.wait(timeout=120) == 1
    assert tree(branches) == before
    assert "model/" in branches.git("diff", "--name-only", "--diff-filter=U")
    branches.git("merge", "--abort")
    assert branches.git("status", "--porcelain", "--", "model") == ""
    journals = [path for path in (branches.path / ".git/theta/merging").iterdir() if path.is_file()]
    assert sum(len(path.read_text().splitlines()) for path in journals) >= 2
    branches.git("-c", f"theta.cluster={cluster.address}", "merge", "--quiet", "--no-edit", "theirs")
    assert left(branches) == []
    merged = tree(branches)
    branches.git("reset", "--quiet", "--hard", "main@{1}")
    forget(branches)
    assert merge(branches, "average") == merged


VERSIONS = evolution(range(20, COUNT), range(45), range(3))
"""Of the small tensors: gc gathers the parents of the third version, and takes those of the last from bundles."""


def _version(number: int) -> bytes:
    """Return a version of a model whose large tensors cannot be compressed, and stay the same."""
    content = {f"layer.{n}": ("U8", (4 * ELEMENTS,), np.random.default_rng(n).bytes(4 * ELEMENTS)) for n in range(9)}
    return safetensors({**content, **named(VERSIONS[number])})


def _versions(repo: Repo) -> None:
    for number in range(len(VERSIONS)):
        repo.write(_version(number))
        repo.commit(f"version {number}")


def test_a_gc_that_is_killed_after_a_worker_removes_nothing_and_the_next_continues_it(
    with_history: WithHistory, cluster: RayCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repo = with_history(_versions)
    plain = copy_repository(repo.path, tmp_path / "plain")
    words = ["git", "-c", f"theta.cluster={cluster.address}", "theta", "gc"]
    before = packs(repo)
    at = ("git_theta_ext.store.work_area", "WorkArea", "add")
    cluster.kill_one_worker(RECODING)
    with held(repo, tmp_path_factory.mktemp("holding"), words, at, 1) as (collecting, _):
        end_group(collecting)
    assert cluster.killed_one()
    cluster.wait_until_idle()
    assert before < packs(repo)
    repo.git(*words[1:])
    assert left(repo) == []
    plain.git("theta", "gc")
    assert {path.name for path in packs(repo)} == {path.name for path in packs(plain)} != {path.name for path in before}
    assert {GATHERED, PART} <= {entry.encoding for path in packs(repo) for entry in read_pack_header(path).entries}
    repo.git("theta", "fsck", "--full")


def _collected(repo: Repo) -> None:
    _versions(repo)
    repo.git("theta", "gc")


def test_checks_and_checkouts_are_the_same_if_workers_are_killed(
    with_history: WithHistory, cluster: RayCluster
) -> None:
    repo = with_history(_collected)
    for job, words in ((HASHING, ("fsck",)), (DECODING, ("fsck", "--full"))):
        cluster.kill_one_worker(job)
        repo.git("-c", f"theta.cluster={cluster.address}", "theta", *words)
        assert cluster.killed_one()
    cluster.kill_one_worker(WRITING)
    repo.git("-c", f"theta.cluster={cluster.address}", "checkout", "--quiet", "HEAD~1")
    assert cluster.killed_one()
    assert repo.read(MODEL) == _version(2)


def packs(repo: Repo) -> set[Path]:
    return set((repo.path / ".git/theta/packs").glob("*/*"))


_NUMBERS = """\
import sys
from functools import partial
from pathlib import Path
from git_theta_ext.cluster.probe import SharedDirectory
from git_theta_ext.cluster.ray_workers import RayWorkers
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution.distributed import DistributedMerge
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.store.exchange import SharedStore
from git_theta_ext.store.store import Store
from git_theta_ext.store.work_area import WorkArea

address, root, *files = sys.argv[1:]
base, *sides = (Manifest.parse(Path(file).read_bytes()) for file in files)
for together in (1, 2, 3):
    store = Store(Path(root))
    area = WorkArea(store, "key")
    workers = RayWorkers(address, SharedDirectory(area.path), together)
    merge = DistributedMerge(workers, SharedStore(store, area), Journal(None))
    rules = Rules.only("ties", {"density": 0.5})
    outcome = apply(plan(base, sides, rules), store, partial(Engine, store, distributed=merge))
    workers.close()
    area.close(remove=True)
    store.close()
    print(hash(outcome.manifest.to_bytes()))
store = Store(Path(root))
print(hash(apply(plan(base, sides, rules), store).manifest.to_bytes()))
store.close()
"""


def test_any_number_of_workers_gives_the_same_bits(branches: Repo, cluster: RayCluster, tmp_path: Path) -> None:
    files = []
    for rev in ("base", "main", "theirs"):
        files.append(tmp_path / rev)
        files[-1].write_text(branches.git("cat-file", "blob", f"{rev}:model/{SHARDS[0]}") + "\n")
    root = str(branches.path / ".git/theta")
    command = [sys.executable, "-c", _NUMBERS, cluster.address, root, *map(str, files)]
    digests = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(digests) == 4
    assert len(set(digests)) == 1


def forget(repo: Repo) -> None:
    """Make the next merge compute again what the last one has computed."""
    for path in (repo.path / ".git/theta/merging").glob("models-*"):
        path.unlink()
