"""Kill git commands, at points that do not depend on how fast something runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Repo

ON_IMPORT = """\
import importlib.util
import sys


class OnImport:
    def __init__(self, name, change):
        self.name, self.change = name, change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.change(module)

        spec.loader.exec_module = exec_module
        return spec
"""
"""The beginning of a ``sitecustomize.py`` that changes a module when it is imported."""

_HOLD = """
import itertools
import os
import threading

NAME, OWNER, METHOD, COUNT, REACHED = os.environ["HOLD_AT"].split(":")


def hold(module):
    if os.path.exists(REACHED):
        return
    owner, calls = getattr(module, OWNER), itertools.count(1)
    real = getattr(owner, METHOD)

    def held(*args, **options):
        if next(calls) > int(COUNT):
            threading.Event().wait()
        real(*args, **options)
        if next(done) == int(COUNT):
            with open(REACHED + ".new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(REACHED + ".new", REACHED)
            threading.Event().wait()

    done = itertools.count(1)
    setattr(owner, METHOD, held)


sys.meta_path.insert(0, OnImport(NAME, hold))
"""


def end_group(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a command, which leads a process group, and to its children, and wait until all have ended.

    A killed process holds its locks until it has ended, which may be after its parent has.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    process.communicate(timeout=120)
    end = time.monotonic() + 120
    while _any_alive(process.pid):
        assert time.monotonic() < end, "a process does not end"
        time.sleep(0.001)


def _any_alive(group: int) -> bool:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state not in "ZX":
                return True
    return False


def unlock(folder: Path) -> None:
    """Remove git's own locks from a repository, as it advises after a crash; ours are held by nobody."""
    for lock in folder.rglob("*.lock"):
        if "theta" not in lock.relative_to(folder).parts:
            lock.unlink(missing_ok=True)


@contextmanager
def held(
    repo: Repo, folder: Path, command: list[str], at: tuple[str, str, str], count: int
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command until a method of git theta was called some times, and give it and the process that called it.

    The process goes no further, but those that the command starts after it do. When the block ends, the command is
    killed if it still runs.

    Args:
        repo: Where it runs.
        folder: An empty folder for what holds it.
        command: The command.
        at: Module, class and method.
        count: The number of calls.
    """
    (folder / "sitecustomize.py").write_text(ON_IMPORT + _HOLD)
    reached = folder / "reached"
    environment = {**os.environ, "PYTHONPATH": str(folder), "HOLD_AT": ":".join((*at, str(count), str(reached)))}
    environment["TMPDIR"] = str(folder)  # a process that is killed leaves temporary directories
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=repo.path, env=environment, start_new_session=True, **quiet)
    try:
        while process.poll() is None and not reached.exists():
            time.sleep(0.005)
        assert reached.exists(), f"{command} has ended"
        yield process, int(reached.read_text())
    finally:
        end_group(process)
