"""Tools that store versions of a file, each as the commands to add a version, compact the store and restore a version.

Commands run in the folder ``work``, which has the model. They restore a version to the folder ``tree`` next to it.
``{version}`` is replaced by the number of a version.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tools import LFS, MODEL, PLAIN, THETA, environment

if TYPE_CHECKING:
    from benchmarks.tools import Tool

    Command = tuple[str, ...]

WORK, TREE = "work", "tree"


@dataclass(frozen=True)
class Peer:
    """A tool.

    Attributes:
        name: Name in the table.
        needs: The program that it needs; it is left out if the program is not installed.
        setup: Commands that create an empty store.
        add: Commands that store the current model.
        restore: Commands that write a version to ``tree``.
        store: Folders of the store, next to ``work``.
        tidy: Commands that compact the store.
        often: Compact the store each time that so many versions were added; 0 to compact it at the end only.
    """

    name: str
    needs: str
    setup: tuple[Command, ...]
    add: tuple[Command, ...]
    restore: tuple[Command, ...]
    store: tuple[str, ...]
    tidy: tuple[Command, ...] = ()
    often: int = 0

    @property
    def present(self) -> bool:
        """Whether the program or Python module is installed."""
        return shutil.which(self.needs) is not None or find_spec(self.needs) is not None


def _git(tool: Tool, needs: str, tidy: tuple[Command, ...] = ()) -> Peer:
    setup = (
        ("git", "init", "--quiet", "--initial-branch=main"),
        ("git", "config", "gc.auto", "0"),
        ("git", "config", "theta.gcAuto", "0"),
        *(("git", *command) for command in tool.setup),
        ("git", "commit", "--quiet", "--allow-empty", "--message", "empty"),
    )
    add = (
        ("git", "add", "--all"),
        ("git", "commit", "--quiet", "--message", "{version}"),
        ("git", "tag", "v{version}"),
    )
    restore = (
        ("git", "worktree", "prune"),
        ("git", "worktree", "add", "--quiet", "--detach", f"../{TREE}", "v{version}"),
    )
    stores = tuple(dict.fromkeys(f"{WORK}/.git/{name}" for name in ("objects", tool.store)))
    return Peer(tool.name, needs, setup, add, restore, stores, tidy)


_XET = (sys.executable, str(Path(__file__).with_name("xet.py")))
_GIT_THETA = _git(THETA, "git-theta", (("git", "theta", "gc"),))

PEERS = (
    _GIT_THETA,
    replace(_GIT_THETA, name="git-theta, gc every 10", often=10),
    _git(LFS, "git-lfs"),
    _git(PLAIN, "git", (("git", "gc", "--quiet", "--prune=now"),)),
    Peer(
        "borg",
        "borg",
        (("borg", "init", "--encryption=none", "../store"),),
        (("borg", "create", "--compression=zstd", "../store::{version}", MODEL),),
        (("sh", "-c", f"mkdir ../{TREE} && cd ../{TREE} && borg extract ../store::{{version}}"),),
        ("store",),
        (("borg", "compact", "../store"),),
    ),
    Peer(
        "restic",
        "restic",
        (("restic", "init", "--quiet", "--repo=../store"),),
        (("restic", "backup", "--quiet", "--repo=../store", "--tag={version}", MODEL),),
        (("restic", "restore", "--quiet", "--repo=../store", f"--target=../{TREE}", "--tag={version}", "latest"),),
        ("store",),
        (("restic", "prune", "--quiet", "--repo=../store"),),
    ),
    Peer(
        "hf-xet",
        "hf_xet",
        (),
        ((*_XET, "put", MODEL, "../store", "../{version}"),),
        ((*_XET, "get", f"../{TREE}/{MODEL}", "../store", "../{version}"),),
        ("store",),
    ),
)


class Keeper:
    """A tool that stores versions in its own folder.

    Args:
        peer: The tool.
        folder: The folder to create.
        limit: Time limit of a compaction, in seconds.
    """

    def __init__(self, peer: Peer, folder: Path, limit: float) -> None:
        self.peer = peer
        self.folder = folder
        self.limit = limit
        (folder / WORK).mkdir(parents=True)
        secret = {"RESTIC_PASSWORD": "benchmark", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        self._env = environment(folder / "home") | secret | {"XDG_CACHE_HOME": str(folder / "home")}
        self._run(peer.setup)

    def add(self, version: int, file: Path) -> float:
        """Store a file as a version, and return the wall time in seconds."""
        shutil.copyfile(file, self.folder / WORK / MODEL)
        return self._run(self.peer.add, version)

    def tidy(self) -> float | None:
        """Compact the store, and return the wall time in seconds; None if it exceeds the time limit."""
        try:
            return self._run(self.peer.tidy, limit=self.limit)
        except subprocess.TimeoutExpired:
            return None

    def restore(self, version: int) -> tuple[float, Path]:
        """Restore a version in an empty folder, and return the wall time in seconds and the file.

        The next call removes the file.
        """
        shutil.rmtree(self.folder / TREE, ignore_errors=True)
        return self._run(self.peer.restore, version), self.folder / TREE / MODEL

    def stored(self) -> int:
        """Return the size of the store in bytes, without temporary files of commands that were killed."""
        files = [path for name in self.peer.store for path in (self.folder / name).rglob("*")]
        return sum(path.stat().st_size for path in files if path.is_file() and not path.name.startswith("tmp_"))

    def _run(self, commands: tuple[Command, ...], version: int = 0, limit: float | None = None) -> float:
        start = time.perf_counter()
        for command in commands:
            filled = [word.format(version=version) for word in command]
            done = subprocess.Popen(
                filled,
                cwd=self.folder / WORK,
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                output, _ = done.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(done.pid, signal.SIGKILL)  # git runs child processes
                done.communicate()
                raise
            if done.returncode:
                raise RuntimeError(f"{' '.join(filled)}: exit {done.returncode}\n{output}")
        return time.perf_counter() - start
