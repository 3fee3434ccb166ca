"""Tools that keep versions of a file, each as the commands that add a version, tidy up and bring one back.

Commands run in the folder ``work``, which holds the model; the folder ``tree`` beside it receives what is brought back.
``{version}`` stands for a version's number.
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
    """One tool.

    Attributes:
        name: As in the table.
        needs: Program without which it is left out.
        setup: Commands that make an empty store.
        add: Commands that keep the model as it is now.
        restore: Commands that write a version to ``tree``.
        store: Folders that hold what is kept, beside ``work``.
        tidy: Commands that make the store smaller.
        often: Tidy up after so many versions already, and not only at the end; 0 for never.
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
        """Whether the program, or module of Python, is installed."""
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
    """One tool at work in a folder of its own.

    Args:
        peer: The tool.
        place: Folder to make.
        limit: Seconds after which tidying up is given up.
    """

    def __init__(self, peer: Peer, place: Path, limit: float) -> None:
        self.peer = peer
        self.place = place
        self.limit = limit
        (place / WORK).mkdir(parents=True)
        secret = {"RESTIC_PASSWORD": "benchmark", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        self._env = environment(place / "home") | secret | {"XDG_CACHE_HOME": str(place / "home")}
        self._run(peer.setup)

    def add(self, version: int, file: Path) -> float:
        """Keep a file as a version; returns wall seconds."""
        shutil.copyfile(file, self.place / WORK / MODEL)
        return self._run(self.peer.add, version)

    def tidy(self) -> float | None:
        """Make the store smaller; returns wall seconds, or None where that took too long and was given up."""
        try:
            return self._run(self.peer.tidy, limit=self.limit)
        except subprocess.TimeoutExpired:
            return None

    def restore(self, version: int) -> tuple[float, Path]:
        """Bring a version back in an empty folder; returns wall seconds and the file, gone at the next call."""
        shutil.rmtree(self.place / TREE, ignore_errors=True)
        return self._run(self.peer.restore, version), self.place / TREE / MODEL

    def stored(self) -> int:
        """Return the bytes of all that is kept, without what a command left that was given up."""
        files = [path for name in self.peer.store for path in (self.place / name).rglob("*")]
        return sum(path.stat().st_size for path in files if path.is_file() and not path.name.startswith("tmp_"))

    def _run(self, commands: tuple[Command, ...], version: int = 0, limit: float | None = None) -> float:
        start = time.perf_counter()
        for command in commands:
            filled = [word.format(version=version) for word in command]
            done = subprocess.Popen(
                filled,
                cwd=self.place / WORK,
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                told, _ = done.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(done.pid, signal.SIGKILL)  # git leaves the work to its children
                done.communicate()
                raise
            if done.returncode:
                raise RuntimeError(f"{' '.join(filled)}: exit {done.returncode}\n{told}")
        return time.perf_counter() - start
