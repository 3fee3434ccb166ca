"""The version control tools to compare, each as the commands that a user types."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "model.safetensors"


@dataclass(frozen=True)
class Tool:
    """A tool with its own repository.

    Attributes:
        name: Name in the table.
        setup: Arguments of the ``git`` commands that make an empty repository track the model.
        store: The folder of stored data, relative to ``.git``.
    """

    name: str
    setup: tuple[tuple[str, ...], ...]
    store: str


THETA = Tool("git-theta", (("theta", "install", "--local"), ("theta", "track", "*.safetensors")), "theta")
LFS = Tool("git-lfs", (("lfs", "install", "--local"), ("lfs", "track", "*.safetensors")), "lfs")
PLAIN = Tool("git", (), "objects")


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which git ignores the configuration of the user and the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    home.mkdir(exist_ok=True)
    roles = ("AUTHOR", "COMMITTER")
    person = {f"GIT_{role}_{part}": "bench@example.com" for role in roles for part in ("NAME", "EMAIL")}
    # Git before 2.32 knows no GIT_CONFIG_GLOBAL.
    configuration = {
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    return kept | configuration | {"HOME": str(home), "LC_ALL": "C"} | person


def weighed(command: list[str], folder: Path, env: dict[str, str]) -> tuple[float, int]:
    """Run a command, and return the wall time in seconds and the peak resident memory of its processes in bytes.

    A small process starts the command, because the kernel includes the memory of a process before it calls ``exec``.
    """
    code = "import resource, subprocess as s, sys; s.run(sys.argv[1:], check=True, stdout=s.DEVNULL, stderr=s.DEVNULL)"
    code += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *command],
        cwd=folder,
        env=env,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return time.perf_counter() - start, 1024 * int(done.stdout)


def spent(command: list[str], folder: Path, env: dict[str, str]) -> tuple[float, float, int]:
    """Run a command, and return wall and CPU time in seconds and the peak resident memory of its processes in bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak = weighed(command, folder, env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak


class Repository:
    """A repository of one tool.

    Args:
        path: The folder to create.
        tool: The tool that tracks the model.
        env: The environment, as ``environment`` returns it.
    """

    def __init__(self, path: Path, tool: Tool, env: dict[str, str]) -> None:
        self.path = path
        self.tool = tool
        self._env = env
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "gc.auto", "0")
        self.git("config", "theta.gcAuto", "0")
        for command in tool.setup:
            self.git(*command)
        self.git("commit", "--quiet", "--allow-empty", "--message", "empty")

    def copy(self, path: Path) -> Repository:
        """Return a copy in a new folder, whose index git has compared with its files."""
        other = copy(self)
        other.path = path
        shutil.copytree(self.path, path, symlinks=True)
        other.git("update-index", "--refresh")
        return other

    @property
    def model(self) -> Path:
        """The checkpoint in the work tree."""
        return self.path / MODEL

    def git(self, *args: str) -> str:
        """Run git and return its output; raise CalledProcessError if it fails."""
        done = subprocess.run(
            ["git", *args], cwd=self.path, env=self._env, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.strip()

    def attempt(self, *args: str) -> int:
        """Run git without output, and return its exit code."""
        return subprocess.run(["git", *args], cwd=self.path, env=self._env, check=False, capture_output=True).returncode

    def timed(self, *args: str) -> float:
        """Run git and return the wall time in seconds."""
        start = time.perf_counter()
        self.git(*args)
        return time.perf_counter() - start

    def weighed(self, *args: str) -> tuple[float, int]:
        """Run git, and return the wall time in seconds and the peak resident memory of its processes in bytes."""
        return weighed(["git", *args], self.path, self._env)

    def spent(self, *args: str) -> tuple[float, float, int]:
        """Run git, and return wall and CPU time in seconds and the peak resident memory of its processes in bytes."""
        return spent(["git", *args], self.path, self._env)

    def cleans(self, *args: str) -> int:
        """Run git, and return the number of files that it passed to a filter to clean."""
        trace = self.path.parent / "trace"
        trace.unlink(missing_ok=True)
        subprocess.run(
            ["git", *args],
            cwd=self.path,
            env=self._env | {"GIT_TRACE_PACKET": str(trace)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return trace.read_bytes().count(b"command=clean\n") if trace.exists() else 0

    def put(self, version: Path) -> None:
        """Write a version of the checkpoint to the work tree, as a training run does."""
        shutil.copyfile(version, self.model)

    def age(self, seconds: int = 10) -> None:
        """Make the model older than the index, so that measurements do not depend on git's resolution of one second."""
        then = time.time() - seconds
        os.utime(self.model, (then, then))

    def stored(self) -> int:
        """Return the size in bytes of all files that the tool stores."""
        return sum(path.stat().st_size for path in (self.path / ".git" / self.tool.store).rglob("*") if path.is_file())

    def sha256(self) -> str:
        """Return the digest of the model in the work tree."""
        return digest(self.model)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def floor(source: Path, target: Path) -> float:
    """Return the wall time in seconds of copying a file and hashing the copy by SHA-256, the minimum for any tool."""
    start = time.perf_counter()
    shutil.copyfile(source, target)
    digest(target)
    return time.perf_counter() - start
