"""A git repository under test, and small models to put into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import pytest

from git_theta_ext.git.hooks import git_version
from git_theta_ext.git.index_patch import StatWords, Update, patch_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.store import Store

MODEL = "model.safetensors"

SPECS: dict[str, tuple[str, tuple[int, ...]]] = {
    "embeddings.word.weight": ("F32", (256, 64)),
    **{f"encoder.layer.{n}.attention.weight": ("F32", (64, 64)) for n in range(4)},
    **{f"encoder.layer.{n}.mlp.weight": ("BF16", (64, 128)) for n in range(4)},
    **{f"encoder.layer.{n}.norm.bias": ("F32", (64,)) for n in range(4)},
    "position_ids": ("I64", (1, 64)),
}
"""What the small model holds, 200 KB."""

EMBEDDING = "embeddings.word.weight"
ATTENTION = [f"encoder.layer.{n}.attention.weight" for n in range(4)]
MLP = [f"encoder.layer.{n}.mlp.weight" for n in range(4)]

WITHOUT_FILTER = [
    word
    for setting in ("process=", "clean=", "smudge=", "required=false")
    for word in ("-c", f"filter.theta.{setting}")
]
"""Options of git with which it takes manifests as they are."""

LAG = 0.12
"""Seconds, a little more than by which ``git theta gc`` expects file times to lag."""

Tensor = tuple[str, tuple[int, ...], bytes]


def packs_of(store: Store, digests: Iterable[Digest]) -> set[str]:
    """Return the names of the packs that some tensors are decoded from, with all that they lean on."""
    return {path.name for path, _ in store.blobs(digests).values()}


def dense_payload(spec: TensorSpec, data: bytes) -> bytes:
    """Return how a pack holds a tensor of one chunk that leans on nothing."""
    from git_theta_ext.interfaces import Chunk
    from git_theta_ext.registry import find_encoding

    pieces = find_encoding("dense").encode(Chunk(spec, 0), memoryview(data))
    return b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)


def make_pack(*entries: tuple[Entry, bytes]) -> tuple[str, bytes]:
    """Return name and bytes of a pack of some entries, with whatever payloads."""
    from git_theta_ext.store.packs.format import write_header

    data = write_header([entry for entry, _ in entries]) + b"".join(payload for _, payload in entries)
    return hashlib.sha256(data).hexdigest(), data


def values(name: str, seed: int) -> bytes:
    """Draw a tensor of the small model: normal weights, reproducible from name and seed."""
    dtype, shape = SPECS[name]
    count = int(np.prod(shape))
    if dtype == "I64":
        return np.arange(seed, seed + count, dtype="<i8").tobytes()
    drawn = np.random.default_rng([seed, zlib.crc32(name.encode())]).normal(0, 0.02, count).astype("<f4")
    return (drawn.view("<u4") >> 16).astype("<u2").tobytes() if dtype == "BF16" else drawn.tobytes()


def tensors(seed: int = 0, changed: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Return the small model, with the tensors in ``changed`` drawn from seeds of their own."""
    seeds = dict.fromkeys(SPECS, seed) | dict(changed or {})
    return {name: (*SPECS[name], values(name, seeds[name])) for name in SPECS}


def safetensors(content: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Lay tensors out in a safetensors file, in the order given."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in content.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in content.values())


def model(seed: int = 0, changed: Mapping[str, int] | None = None) -> bytes:
    """Return the small model as a safetensors file with metadata."""
    return safetensors(tensors(seed, changed), {"format": "pt", "note": "kept to the byte"})


def run_here(args: Sequence[str], folder: Path, answers: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``git theta`` in this process, with streams of its own, also for the programs that it starts."""
    from git_theta_ext.cli.main import main

    if args[:1] == ("gc",):
        _wait_for_packs(folder)
    with _process_state(folder), TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(answers.encode())
        given.seek(0)
        with _redirected(0, given), _redirected(1, out), _redirected(2, err):
            code = main(args)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(["git", "theta", *args], code, out.read().decode(), err.read().decode())


def _wait_for_packs(folder: Path) -> None:
    """Wait until packs are old enough for gc to remove them, as they are when a process of its own has started."""
    store = folder / ".git/theta/packs"
    newest = max((path.stat().st_mtime for path in store.glob("*/*")), default=0.0) if store.is_dir() else time.time()
    time.sleep(max(0.0, newest + LAG - time.time()))


@contextmanager
def _process_state(folder: Path) -> Iterator[None]:
    """Work in a folder, and undo afterwards what a command changes of its process."""
    before, environment, mask = Path.cwd(), dict(os.environ), os.umask(0)
    os.umask(mask)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.umask(mask)
        os.environ.clear()
        os.environ.update(environment)


@contextmanager
def _redirected(descriptor: int, file: IO[bytes]) -> Iterator[None]:
    """Let a stream of this process, and of its children, go to a file."""
    name, mode = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))[descriptor]
    before, kept = getattr(sys, name), os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        with open(descriptor, mode, encoding="utf-8", closefd=False, buffering=1) as stream:
            setattr(sys, name, stream)
            yield
    finally:
        setattr(sys, name, before)
        os.dup2(kept, descriptor)
        os.close(kept)


@dataclass(frozen=True)
class Repo:
    """A work tree, or a bare repository, and the git commands that run in it."""

    path: Path

    def run(self, *args: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run ``git`` with arguments; fails with git's own words if ``check`` is set.

        A command of ours runs in this process, which has imported torch already, unless there are other options than
        ``input``: they are those of ``subprocess.run``.
        """
        if args[0] == "theta" and options.keys() <= {"input"} and threading.current_thread() is threading.main_thread():
            done = run_here(args[1:], self.path, str(options.get("input", "")))
        else:
            done = subprocess.run(["git", *args], cwd=self.path, capture_output=True, text=True, check=False, **options)
        if check and done.returncode:
            raise AssertionError(f"git {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def git(self, *args: str, **options: object) -> str:
        """Run ``git`` and return what it printed, without the last line feed."""
        return self.run(*args, **options).stdout.rstrip("\n")

    def read(self, path: str = MODEL) -> bytes:
        """Return a file of the work tree."""
        return (self.path / path).read_bytes()

    def write(self, data: bytes, path: str = MODEL) -> None:
        """Write a file of the work tree, with the folders it needs."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def write_model(self, path: str = MODEL, seed: int = 0, changed: Mapping[str, int] | None = None) -> bytes:
        """Write the small model and return its bytes."""
        data = model(seed, changed)
        self.write(data, path)
        return data

    def commit(self, message: str, *paths: str, by_filter: bool = False) -> str:
        """Add everything, or only ``paths``, commit, and return the commit's id.

        Checkpoints are staged in this process: a filter takes eight times as long to do the same. Their files are made
        older than the index, as those of users mostly are, or git would start a filter to read them again.

        Args:
            message: The message.
            paths: Files and directories; all changes if there are none.
            by_filter: Stage checkpoints by git's filter, in a test of what the filter does with their content or name.
        """
        if not by_filter:
            make_old(self.path)
            self.run("theta", "add", *(paths or (".",)), check=False)  # fails if there is no checkpoint
        self.git("add", *(paths or ("--all",)))
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def switch(self, *args: str) -> None:
        """Do what ``git checkout`` does with these arguments, and write checkpoints in this process.

        It is for the steps that lead to what a test looks at. The filter is started only if git has to read a file
        to know that it is unchanged.
        """
        if self.run(*WITHOUT_FILTER, "checkout", "--quiet", *args, check=False).returncode:
            self.git("checkout", "--quiet", *args)
        else:
            self.run("theta", "checkout")

    def sha(self, path: str = MODEL) -> str:
        """Return the SHA-256 of a file of the work tree."""
        return hashlib.sha256(self.read(path)).hexdigest()

    def cleans(self, *args: str) -> int:
        """Run a git command and count how often it asked the filter to clean a file."""
        trace = self.path.parent / f"{self.path.name}.trace"
        trace.unlink(missing_ok=True)
        self.git(*args, env={**os.environ, "GIT_TRACE_PACKET": str(trace)})
        return trace.read_bytes().count(b"command=clean\n") if trace.exists() else 0

    def problems(self, path: str, data: bytes) -> list[str]:
        """Return what is wrong with a file that a command wrote; an empty list if nothing is.

        The file has to have these bytes, and ``git status`` has to be clean without cleaning anything. Git looks again
        into a file that is no older than its index, as one that a test wrote a moment ago; what git theta writes is
        older.
        """
        wrong = []
        index = Path(self.git("rev-parse", "--path-format=absolute", "--git-path", "index"))
        young = int((self.path / path).stat().st_mtime) >= int(index.stat().st_mtime)
        if self.read(path) != data:
            wrong.append(f"{path} is a manifest" if self.read(path).startswith(b"git-theta") else f"{path} differs")
        if (cleans := self.cleans("status")) and not young:
            wrong.append(f"git status ran {cleans} cleans")
        if status := self.git("status", "--porcelain", "--untracked-files=no"):
            wrong.append(f"git status says {status}")
        return wrong


def become_git(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be the git that starts our programs, in a new repository."""
    monkeypatch.chdir(top)
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(os, "getppid", os.getpid)
    subprocess.run(["git", "init", "--quiet"], check=True)


PAST = count(int(time.time()) - 1_000_000)
"""Times in seconds; each file gets one of its own, because git does not look at fractions."""


def make_old(folder: Path) -> None:
    """Give the files of a work tree that were written a moment ago a time that lies far back."""
    recently = time.time() - 10
    for place, folders, files in os.walk(folder):
        if ".git" in (*folders, *files) and place != str(folder):  # a submodule has an index of its own
            folders.clear()
            continue
        folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            stat = os.lstat(path := os.path.join(place, name))  # noqa: PTH118 - a path need not be valid UTF-8
            if S_ISREG(stat.st_mode) and stat.st_mtime > recently:
                os.utime(path, (now := next(PAST), now))


@cache
def _staged(source: Path) -> dict[str, str]:
    """Return the object ids of the files in the index of a repository that does not change any more."""
    listed = subprocess.check_output(["git", "ls-files", "--stage", "-z"], cwd=source)
    lines = [os.fsdecode(line).partition("\t") for line in listed.split(b"\0")[:-1]]
    return {path: words.split()[1] for words, _, path in lines}


def needs_git(version: tuple[int, int], what: str) -> pytest.MarkDecorator:
    """Skip a test with a git that is too old for it.

    Args:
        version: The first version with which it passes.
        what: What that version brings.
    """
    return pytest.mark.skipif(
        _git_version() < version, reason=f"git has no {what} before {'.'.join(map(str, version))}"
    )


_git_version = cache(git_version)
MERGE_TREE = needs_git((2, 38), "merge-tree --write-tree")
"""Skips what git merges in memory, as several branches at a time."""


def bundle_from(patch: pytest.MonkeyPatch, count: int) -> None:
    """Bundle small tensors that are stored together from another number of them on."""
    for module in ("store", "bundled", "maintenance.remains", "maintenance.shrink"):
        patch.setattr(f"git_theta_ext.store.{module}.FEWEST", count)


def at_home(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Give git a home directory and the configuration in it, which git before 2.32 does not look for elsewhere."""
    for name, value in {"HOME": home, "XDG_CONFIG_HOME": home, "GIT_CONFIG_GLOBAL": home / ".gitconfig"}.items():
        patch.setenv(name, str(value))


def copy_repository(source: Path, target: Path) -> Repo:
    """Copy a repository that does not change any more, such that git need not look into the files of the copy."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    for index in (target / ".git/theta").glob("index.sqlite3*"):
        index.unlink()  # it knows packs by their places
    updates = {
        os.fsencode(path): Update(
            bytes.fromhex(oid), *(StatWords.of((folder / path).lstat()) for folder in (source, target))
        )
        for path, oid in _staged(source).items()
        if os.path.lexists(source / path)
    }
    patch_file(target / ".git/index", updates, "sha1")
    return Repo(target)


def fork(repo: Repo, path: str = MODEL, versions: Sequence[bytes] = ()) -> None:
    """Make the history of the fixture ``forked``: a commit, tagged ``base``, after which ``side`` and ``main`` part.

    Args:
        repo: The repository, with ``main`` checked out.
        path: The file.
        versions: Its content in the base, on ``side`` and on ``main``; by default the small model.
    """
    base, side, main = versions or (model(1), model(1, {ATTENTION[1]: 3}), model(1, {ATTENTION[0]: 2}))
    repo.write(base, path)
    repo.commit("base")
    repo.git("tag", "base")
    repo.switch("-b", "side")
    repo.write(side, path)
    repo.commit("side")
    repo.switch("main")
    repo.write(main, path)
    repo.commit("main")


class WithHistory(Protocol):
    """The fixture ``with_history``."""

    def __call__(self, make: Callable[[Repo], object]) -> Repo:
        """Give the repository the history that a function makes."""
        ...
