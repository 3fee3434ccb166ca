"""How much memory of GPUs an evaluation takes, as NVIDIA's driver reports it.

``nvidia-smi`` needs no library, and unlike ``torch.cuda.mem_get_info`` it takes no memory of a GPU itself.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERY = ("--query-gpu=index,memory.free", "--format=csv,noheader,nounits")
_MIB = 1 << 20
_MILLISECONDS = 100
_SECONDS = 20


@dataclass(frozen=True)
class GpuUse:
    """The memory that one evaluation takes on each GPU, in bytes, by the number of the GPU."""

    taken: dict[int, int]

    def allowed(self) -> tuple[int, int, int] | None:
        """Return how many evaluations fit, and of the GPU that bounds them the bytes each takes and that are free.

        None if no evaluation takes memory of a GPU, or it is not known how much is free.
        """
        free = free_memory()
        fitting = [(free[gpu] // taken, taken, free[gpu]) for gpu, taken in self.taken.items() if taken and gpu in free]
        return min(fitting, default=None)


def free_memory() -> dict[int, int]:
    """Return the free bytes of each GPU by its number; empty if there is none, or the driver does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(filter(None, map(_parsed, done.stdout.splitlines())))


@contextmanager
def measured_use() -> Iterator[GpuUse]:
    """Return a context whose value knows at its end how much memory of each GPU was taken within it at most."""
    use = GpuUse({})
    before = free_memory()
    program = shutil.which("nvidia-smi")
    if not before or program is None:
        yield use
        return
    try:
        process = subprocess.Popen(
            [program, *_QUERY, f"--loop-ms={_MILLISECONDS}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        yield use
        return
    with process:
        reader = threading.Thread(target=_watch, args=(process.stdout, before, use.taken))
        reader.start()
        try:
            yield use
        finally:
            process.kill()
            reader.join()


def _watch(lines: IO[str], before: dict[int, int], taken: dict[int, int]) -> None:
    for gpu, free in filter(None, map(_parsed, lines)):
        taken[gpu] = max(taken.get(gpu, 0), before.get(gpu, 0) - free)


def _parsed(line: str) -> tuple[int, int] | None:
    """Return number and free bytes of a GPU; None for a line without them, such as one of MIG devices."""
    number, _, free = line.partition(",")
    try:
        return int(number), int(free) * _MIB
    except ValueError:
        return None
