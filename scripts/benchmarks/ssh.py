"""Measure how a file gets to a host and back: by the remote, and by the programs sftp and scp."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.report import markdown
from benchmarks.sshd import sshd
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.ssh import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.sshd import Sshd

_TICKS = os.sysconf("SC_CLK_TCK")


def measure(nbytes: int, repeat: int, folder: Path) -> list[dict[str, Any]]:
    """Measure each way, in turn.

    Args:
        nbytes: Size of the file.
        repeat: Repetitions.
        folder: An existing folder for keys and files.

    Returns:
        The medians of each way: wall time, and CPU time of the client and of the server, in seconds.

    Raises:
        NoServerError: There is no server.
    """
    source, samples = folder / "source", dict[str, list[tuple[float, float, float]]]()
    source.write_bytes(os.urandom(nbytes))
    (folder / "keys").mkdir()
    with sshd(folder / "keys") as host:
        for number in range(repeat):
            for way, work in _ways(host, folder, source, number).items():
                samples.setdefault(way, []).append(_timed(host, work))
    columns = ("wall", "client_cpu", "server_cpu")
    medians = {way: map(statistics.median, zip(*figures, strict=True)) for way, figures in samples.items()}
    return [{"way": way, **dict(zip(columns, figures, strict=True))} for way, figures in medians.items()]


def table(rows: list[dict[str, Any]]) -> str:
    """Render the results as Markdown."""
    figures = [[row["way"], *(f"{row[name]:.2f} s" for name in ("wall", "client_cpu", "server_cpu"))] for row in rows]
    return markdown(["", "wall", "CPU here", "CPU of the host"], figures)


def _ways(host: Sshd, folder: Path, source: Path, number: int) -> dict[str, Callable[[], object]]:
    key = f"packs/{number:02x}/{number:064x}"
    client = ("-q", "-F", str(host.folder / "client"))
    nbytes = source.stat().st_size
    (folder / "fetched").unlink(missing_ok=True)

    def sftp(line: str) -> None:
        command = ["sftp", "-b", "-", *client, "theta-host"]
        subprocess.run(command, input=line.encode(), check=True, stdout=subprocess.DEVNULL)

    def run(*command: str) -> None:
        subprocess.run(command, check=True)

    return {
        "git theta, connect": lambda: _connected(host, folder, lambda remote: remote.keep([key])),
        "git theta, put": lambda: _connected(host, folder, lambda remote: remote.put(key, source)),
        "sftp, put": lambda: sftp(f"put {source} {folder}/by-sftp"),
        "scp, put": lambda: run("scp", *client, str(source), f"theta-host:{folder}/by-scp"),
        "git theta, get": lambda: _connected(
            host, folder, lambda remote: remote.fetch(key, folder / "fetched", nbytes)
        ),
        "sftp, get": lambda: sftp(f"get {folder}/by-sftp {folder}/fetched-by-sftp"),
        "scp, get": lambda: run("scp", *client, f"theta-host:{folder}/by-scp", f"{folder}/fetched-by-scp"),
        "cp": lambda: run("cp", "--reflink=never", str(source), f"{folder}/copy"),
    }


def _connected(host: Sshd, folder: Path, work: Callable[[Any], object]) -> None:
    """Do something with a connection of its own, as a command has it."""
    environment = {**os.environ, "GIT_SSH_COMMAND": host.command}
    git = SimpleNamespace(folder=folder, environment=lambda: environment, run=lambda *_, **__: b"")
    remote = open_remote(f"ssh://theta-host{folder}/theta", {}, RemoteContext(git=git))
    work(remote)


def _timed(host: Sshd, work: Callable[[], object]) -> tuple[float, float, float]:
    wall, here, there = time.perf_counter(), _own(), _of(host.pid)
    work()
    wall = time.perf_counter() - wall
    while _children(host.pid) or _children(os.getpid()) != {host.pid}:  # they count when they were waited for
        time.sleep(0.01)
    return wall, _own() - here, _of(host.pid) - there


def _children(pid: int) -> set[int]:
    return {int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()}


def _own() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _of(pid: int) -> float:
    """Return the CPU time of a process and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS
