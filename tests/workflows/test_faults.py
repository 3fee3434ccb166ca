"""System calls that fail, and kills between any two of them: nothing is lost, and the same command then works.

``faults.c`` is loaded into git theta's own processes and counts their calls on files of the repository, its remote and
its clone.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, safetensors, tensors

from git_theta_ext.checkpoint.populate import read_layout
from git_theta_ext.errors import ThetaError
from git_theta_ext.model.layout import Slice
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = ("EIO", "ENOSPC", "SHORT", "EINTR")
KILLS = ("KILL", "KILLALL")
POINTS = int(os.environ.get("FAULT_POINTS", "300"))
"""Of each kind, over all operations, in the long version."""


def content(seed: int) -> bytes:
    """Return a model with small tensors and one that has a pack of its own."""
    large = np.random.default_rng(seed).normal(0, 0.02, 1 << 17).astype("<f4")
    return safetensors({**tensors(seed), "large": ("F32", (1 << 17,), large.tobytes())})


VERSIONS = {tag: content(seed) for seed, tag in enumerate(("one", "two", "three"), 1)}


WROTE = {"HEAD": "three"}


@dataclass(frozen=True)
class Operation:
    """A command that is disturbed.

    Attributes:
        words: The arguments of git.
        place: The repository that it runs in.
        again: What has to work afterwards.
        writes: The version that the work tree then has.
    """

    words: tuple[str, ...]
    again: tuple[tuple[str, ...], ...]
    writes: str = "two"
    place: str = "repo"


OPERATIONS = {
    "add": Operation(("add", MODEL), (("add", MODEL), ("commit", "--quiet", "--message", "three")), "three"),
    "theta add": Operation(
        ("theta", "add", MODEL), (("theta", "add", MODEL), ("commit", "--quiet", "--message", "three")), "three"
    ),
    "checkout": Operation(
        ("checkout", "--quiet", "one"), (("checkout", "--quiet", "--force", "one"), ("theta", "checkout")), "one"
    ),
    "fetch": Operation(("theta", "checkout"), (("theta", "checkout"),), place="clone"),
    "push": Operation(("push", "--quiet", "origin", "main", "one"), (("push", "--quiet", "origin", "main", "one"),)),
    "gc": Operation(("theta", "gc", "--grace", "0"), (("theta", "gc", "--grace", "0"),)),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what makes calls fail."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).parents[1] / "faults.c"
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", made, source, "-ldl"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cc: {done.stderr.decode(errors='replace')[:200]}")
    return made


@pytest.fixture(scope="module")
def world(module_repo: Repo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository with two versions, one of which was pushed to a remote, and a clone with manifests only."""
    folder = tmp_path_factory.mktemp("world")
    repo = Repo(folder / "repo")
    shutil.copytree(module_repo.path, repo.path, symlinks=True)
    repo.git("theta", "install", "--global")
    repo.git("init", "--quiet", "--bare", "../shared.git")
    repo.git("remote", "add", "origin", "../shared.git")
    for tag in ("one", "two"):
        repo.write(VERSIONS[tag])
        repo.commit(tag)
        repo.git("tag", tag)
    repo.git("push", "--quiet", "origin", "main")
    kept = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"}
    repo.git("clone", "--quiet", "../shared.git", "../clone", env=kept)
    return folder


class Disturbed:
    """A copy of the world, in which commands are disturbed.

    Args:
        world: What is copied.
        folder: Where to.
        library: What disturbs.
    """

    def __init__(self, world: Path, folder: Path, library: Path) -> None:
        self._world = world
        self._library = library
        self.folder = folder / "world"

    def fresh(self, operation: Operation) -> Repo:
        """Begin anew; return the repository that the operation runs in."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._world, self.folder, symlinks=True)
        for index in self.folder.rglob("index.sqlite3*"):
            index.unlink()  # it knows packs by their places
        repo = Repo(self.folder / operation.place)
        if operation.writes == "three":
            repo.write(VERSIONS["three"])
        elif operation.words[0] == "push":
            shutil.rmtree(self.folder / "shared.git")
            repo.git("init", "--quiet", "--bare", "../shared.git")
        return repo

    def run(self, operation: Operation, how: str, at: int) -> tuple[int, str, int]:
        """Run the operation; return its exit code, what it said, and how many calls were counted."""
        counter = self.folder / "counter"
        counter.write_bytes(bytes(8))
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self._library),
            "FAULT_ROOT": str(self.folder),
            "FAULT_COUNTER": str(counter),
            "FAULT_AT": str(at),
            "FAULT_HOW": how,
            "FAULT_PROGRAM": "bin/git-theta",
        }
        done = subprocess.run(
            ["git", *operation.words],
            cwd=self.folder / operation.place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=300,
            check=False,
        )
        (count,) = struct.unpack("=Q", counter.read_bytes())
        return done.returncode, done.stdout.decode(errors="replace"), count


@pytest.fixture
def disturbed(world: Path, tmp_path: Path, library: Path) -> Iterator[Disturbed]:
    """Return a world to disturb."""
    yield Disturbed(world, tmp_path, library)
    shutil.rmtree(tmp_path / "world", ignore_errors=True)


def lost(repo: Repo, store: Path, *revisions: str) -> list[str]:
    """Return the versions that do not come back from a store."""
    wrong = []
    for revision in revisions:
        manifest = Manifest.parse(subprocess.check_output(["git", "show", f"{revision}:{MODEL}"], cwd=repo.path))
        with closing(Store(store)) as opened:
            try:
                data = b"".join(
                    opened.read(manifest.parameters[part.name].digest, part.spec)
                    if isinstance(part, Slice)
                    else part.data
                    for part in read_layout(manifest, opened, MODEL).segments
                )
            except ThetaError as error:
                wrong.append(f"{revision}: {error}")
                continue
        if data != VERSIONS[WROTE.get(revision, revision)]:
            wrong.append(f"{revision} differs")
    return wrong


def disturb(disturbed: Disturbed, name: str, hows: tuple[str, ...], points: int, offset: float) -> None:
    """Disturb an operation at some points of its way, and see that all is as before, or as after."""
    operation = OPERATIONS[name]
    disturbed.fresh(operation)
    code, said, total = disturbed.run(operation, "EIO", 0)
    assert (code, total > 20) == (0, True), said  # else it is not ours that are counted
    wrong: list[str] = []
    for number in range(points):
        at, how = 1 + int(total * (number + offset) / points), hows[number % len(hows)]
        repo = disturbed.fresh(operation)
        before = repo.read()
        code, said, _ = disturbed.run(operation, how, at)
        wrong += [f"{name}: {how} at {at} of {total}: {text}" for text in _wrong(disturbed, operation, before, said)]
    assert wrong == []


def _wrong(disturbed: Disturbed, operation: Operation, before: bytes, said: str) -> list[str]:
    repo, mine = Repo(disturbed.folder / operation.place), Repo(disturbed.folder / "repo")
    wrong = [f"a traceback: {said[-1500:]}"] if "Traceback" in said else []
    store = mine.path / ".git" / "theta"
    wrong += lost(mine, store, "one", "two")
    if (repo.path / MODEL).exists():
        found = repo.read()
        if found not in (before, VERSIONS[operation.writes]) and not found.startswith(b"git-theta manifest 1\n"):
            wrong.append(f"{len(found)} bytes of something else in the work tree")
    elif operation.words[0] != "checkout":  # git removes the old file before it asks the filter for the new one
        wrong.append("no file in the work tree")
    for lock in repo.path.glob(".git/**/*.lock"):
        lock.unlink()  # git's own, as it advises after a crash; ours are held by nobody
    for words in operation.again:
        done = repo.run(*words, check=False)
        if done.returncode and "nothing to commit" not in done.stdout:
            wrong.append(f"git {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    if repo.read() != VERSIONS[operation.writes]:
        wrong.append("the work tree is another afterwards")
    wrong += lost(mine, store, "one", "two")
    if operation.writes == "three":
        wrong += lost(mine, store, "HEAD")
    if operation.words[0] == "push":
        wrong += lost(mine, disturbed.folder / "shared.git" / "theta", "one", "two")
    return wrong


@pytest.mark.parametrize("name", ["add", "checkout", "fetch", "push", "gc"])
def test_a_failed_call_loses_nothing(disturbed: Disturbed, name: str) -> None:
    at = list(OPERATIONS).index(name)
    disturb(disturbed, name, (FAILURES[at % 2],), 1, 0.3 + 0.1 * at)


@pytest.mark.parametrize("name", ["checkout", "push"])
def test_a_kill_between_two_calls_loses_nothing(disturbed: Disturbed, name: str) -> None:
    disturb(disturbed, name, KILLS, 1, 0.7)


@pytest.mark.soak
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("hows", [FAILURES, KILLS], ids=["fail", "kill"])
def test_many_points_lose_nothing(disturbed: Disturbed, name: str, hows: tuple[str, ...]) -> None:
    disturb(disturbed, name, hows, -(-POINTS // len(OPERATIONS)), 0.5)
