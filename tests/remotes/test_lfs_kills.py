"""Pushes to an LFS server and fetches from it that are killed at random points, and two pushes at once.

The server and the repositories are made once. A round begins with copies of them, and what the server holds is read
from its files, so that a round costs little more than the commands that are killed and tried again.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from benchmarks.lfs_host import LfsHost
from helpers import MODEL, Repo, at_home, copy_repository, model
from kills import end_group, unlock

from git_theta_ext.checkpoint.populate import read_layout
from git_theta_ext.errors import ThetaError
from git_theta_ext.model.layout import Slice
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.protocol.lfs.pointer import parse_pointer
from git_theta_ext.store.store import Store
from git_theta_plugins.remotes._parts import parse_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POINTS = int(os.environ.get("FAULT_POINTS", "300"))
"""Kills of each kind, in the long version."""
SEED = int(os.environ.get("THETA_SEED", "1"))
PUSH = ("push", "--quiet", "origin")


class World:
    """A host, a repository with commits that it lacks, another one with another such commit, and a bare clone.

    Args:
        host: The host.
        url: The URL of the repository on it.
        folder: Has the repositories.
    """

    def __init__(self, host: LfsHost, url: str, folder: Path) -> None:
        self.host, self.url, self.folder = host, url, folder
        self.versions: dict[str, bytes] = {}
        self.repos = {name: Repo(folder / name) for name in ("mine", "theirs", "clone")}
        self._saved = folder / "saved"

    def remember(self, repo: Repo, seed: int) -> None:
        """Commit a version of the model."""
        data = repo.write_model(seed=seed)
        self.versions[repo.commit(f"version {seed}")] = data

    def save(self) -> None:
        """Make the present state the one that rounds begin with."""
        shutil.copytree(self.host.root, self._saved / "host")
        for name, repo in self.repos.items():
            shutil.copytree(repo.path, self._saved / name, symlinks=True)

    def reset(self, *names: str) -> None:
        """Begin a round, with some of the repositories."""
        self.wait()
        shutil.rmtree(self.host.root)
        shutil.copytree(self._saved / "host", self.host.root)
        for name in names:
            shutil.rmtree(self.repos[name].path)
            copy_repository(self._saved / name, self.repos[name].path)

    def wait(self) -> None:
        """Wait until the server has ended what killed clients began."""
        assert self.host.wait()

    def bare(self, *args: str) -> bytes:
        """Return what git prints in the repository on the host."""
        return subprocess.check_output(["git", "-C", str(self.host.root / "git" / "models.git"), *args])

    def wrong(self, folder: Path) -> list[str]:
        """Return what is wrong on the host: it has to hold what its index names, and all that its branches name."""
        self.wait()
        wrong = []
        store = folder / f"store-{random.random()}"
        refs = [line.split() for line in self.bare("for-each-ref", "--format=%(refname) %(objectname)").splitlines()]
        for line in self.bare("ls-tree", "-r", "refs/theta/index", "packs", "parts").splitlines() if refs else ():
            oid, path = line.decode().split()[2:]
            objects = [self.host.objects / part for part in self._objects(path, self.bare("cat-file", "blob", oid))]
            _, folder, rest = path.split("/")
            if not all(held.exists() for held in objects):
                wrong.append(f"the index names {path}, which is not there")
                continue
            data = b"".join(held.read_bytes() for held in objects)
            if hashlib.sha256(data).hexdigest() != folder + rest:
                wrong.append(f"{path} has other bytes")
                continue
            target = store / "packs" / folder / (folder + rest)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for ref, commit in refs:
            if ref.startswith(b"refs/heads/"):
                wrong += self._lost(store, ref.decode(), commit.decode())
        shutil.rmtree(store, ignore_errors=True)
        return wrong

    @staticmethod
    def _objects(path: str, data: bytes) -> list[str]:
        """Return the objects of a pack, given its file in the index."""
        if path.startswith("parts/"):
            return [part.oid for part in parse_parts(data)]
        pointer = parse_pointer(data)
        assert pointer is not None
        return [pointer.oid]

    def _lost(self, root: Path, ref: str, commit: str) -> list[str]:
        root.mkdir(exist_ok=True)
        manifest = Manifest.parse(self.bare("cat-file", "blob", f"{commit}:{MODEL}"))
        with closing(Store(root)) as store:
            try:
                data = b"".join(
                    bytes(store.read(manifest.parameters[part.name].digest, part.spec))
                    if isinstance(part, Slice)
                    else part.data
                    for part in read_layout(manifest, store, MODEL).segments
                )
            except ThetaError as error:
                return [f"{ref}: {error}"]
        return [] if data == self.versions[commit] else [f"{ref} has another model"]


@pytest.fixture(scope="module")
def world(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        home = folder / "home"
        home.mkdir()
        (home / ".gitconfig").write_text("[user]\n\tname = a\n\temail = a@b\n[init]\n\tdefaultBranch = main\n")
        at_home(home, patch)
        host = LfsHost(folder / "host")
        world = World(host, host.repository(), folder)
        mine = copy_repository(template, world.repos["mine"].path)
        mine.git("theta", "install", "--global")
        mine.git("remote", "add", "origin", world.url)
        world.remember(mine, 1)
        mine.git(*PUSH, "main")
        for name in ("theirs", "clone"):
            mine.git("clone", "--quiet", world.url, str(world.repos[name].path))
        theirs = world.repos["theirs"]
        world.remember(theirs, 2)
        theirs.git("branch", "side")
        for seed in (3, 4, 5):  # so that some are uploaded while others are recoded
            world.remember(mine, seed)
        clone = world.repos["clone"]
        clone.git("checkout", "--quiet", "--detach")
        clone.git("rm", "--quiet", MODEL)
        shutil.rmtree(clone.path / ".git" / "theta" / "packs")
        (clone.path / ".git" / "theta" / "index.sqlite3").unlink()
        world.save()
    yield world
    host.close()


@pytest.fixture(autouse=True)
def installed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(world.folder / "home", monkeypatch)


def started(repo: Repo, *command: str) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(["git", *command], cwd=repo.path, start_new_session=True, **quiet)


def killed(repo: Repo, seconds: float, *command: str) -> bool:
    """Start a git command, kill it and its children after some time, and return whether it was still running."""
    process = started(repo, *command)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    finally:
        end_group(process)
    return False


def duration(repo: Repo, *command: str) -> float:
    began = time.monotonic()
    repo.git(*command, env=dict(os.environ))
    return time.monotonic() - began


def push_killed(world: World, folder: Path, points: int, part_size: int = 1 << 30) -> None:
    """Kill pushes, and see that what was pushed before is whole, and that the same command then works."""
    draw = random.Random(SEED)
    world.reset("mine")
    mine = world.repos["mine"]
    size = ("config", "theta.remote.origin.partSize", str(part_size))
    mine.git(*size)
    longest, number, running, wrong = duration(mine, *PUSH, "main"), 0, 0, []
    while number < points or not running:
        world.reset("mine")
        mine.git(*size)
        seconds = draw.uniform(0, longest)
        if killed(mine, seconds, *PUSH, "main"):
            running += 1
        else:
            longest = seconds  # the first push was slow
        number += 1
        wrong += [f"{number}: {text}" for text in world.wrong(folder)]
        unlock(mine.path / ".git")
        mine.git(*PUSH, "main")
        wrong += [f"{number}, again: {text}" for text in world.wrong(folder)]
        head = mine.git("rev-parse", "HEAD")
        if world.bare("rev-parse", "main").decode().strip() != head:
            wrong.append(f"{number}: the branch was not pushed")
    assert wrong == []
    assert running > points // 3


def fetch_killed(world: World, points: int) -> None:
    """Kill checkouts of what is not here yet, and see that the same command then works."""
    draw = random.Random(SEED)
    command = ("checkout", "--quiet", "--force", "main")
    world.reset("clone")
    clone = world.repos["clone"]
    longest, running = duration(clone, *command), 0
    for _ in range(points):
        world.reset("clone")
        running += killed(clone, draw.uniform(0, longest), *command)
        unlock(clone.path / ".git")
        store = clone.path / ".git" / "theta" / "packs"
        for path in store.glob("??/*") if store.is_dir() else ():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        clone.git(*command)
        clone.git("theta", "checkout")
        assert clone.read() == model(1)
    assert running > points // 3


def pushes_killed(world: World, folder: Path, points: int) -> None:
    """Kill two pushes at once, every other time to the same branch, and see that nothing is lost."""
    draw = random.Random(SEED)
    mine, theirs = world.repos["mine"], world.repos["theirs"]
    world.reset("mine", "theirs")
    longest, wrong = duration(mine, *PUSH, "main"), []
    for number in range(points):
        world.reset("mine", "theirs")
        branch = ("main", "side")[number % 2]
        threads = [
            threading.Thread(target=killed, args=(repo, draw.uniform(0, 3 * longest), *PUSH, name))
            for repo, name in ((mine, "main"), (theirs, branch))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wrong += [f"{number}: {text}" for text in world.wrong(folder)]
        for repo in (mine, theirs):
            unlock(repo.path / ".git")
        codes = [mine.run(*PUSH, "main", check=False).returncode, theirs.run(*PUSH, branch, check=False).returncode]
        if codes.count(0) < (2 if branch == "side" else 1):
            wrong.append(f"{number}: pushes to main and {branch} exit with {codes}")
        wrong += [f"{number}, again: {text}" for text in world.wrong(folder)]
    assert wrong == []


def test_a_killed_push_loses_nothing(world: World, tmp_path: Path) -> None:
    push_killed(world, tmp_path, 1)


@pytest.mark.soak
def test_pushes_killed_at_many_points_lose_nothing(world: World, tmp_path: Path) -> None:
    push_killed(world, tmp_path, POINTS)


@pytest.mark.soak
def test_pushes_of_divided_packs_killed_at_many_points_lose_nothing(world: World, tmp_path: Path) -> None:
    push_killed(world, tmp_path, POINTS, part_size=10_000)
    assert world.bare("ls-tree", "-r", "refs/theta/index", "parts")


@pytest.mark.soak
def test_fetches_killed_at_many_points_leave_no_half_pack(world: World) -> None:
    fetch_killed(world, POINTS)


@pytest.mark.soak
def test_two_pushes_killed_at_many_points_lose_nothing(world: World, tmp_path: Path) -> None:
    pushes_killed(world, tmp_path, POINTS)
