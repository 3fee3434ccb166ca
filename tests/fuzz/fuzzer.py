"""Run a parser on mutated inputs, within limits: ``python fuzzer.py TARGET SECONDS SEED FOLDER``.

Each input is saved before it is read, so that it is there if the process dies. Exits with 1, the input and the reason
saved, at the first that the parser neither accepts, with its invariants kept, nor refuses by a ``ThetaError``.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))  # Python leaves it out if PYTHONSAFEPATH is set

from mutations import mutated
from targets import TARGETS

from git_theta_ext.errors import ThetaError

if TYPE_CHECKING:
    from types import FrameType

MEMORY = 1 << 28
"""Bytes that an input of 128 KiB may take, beside what the process has when it begins: none has needed a fifth."""
CPU_SECONDS = 5.0
"""Seconds of processor time that such an input may take: none has needed one."""


class TooLongError(BaseException):
    """An input took more processor time than it may."""


def attempt(target: str, data: bytes) -> None:
    """Let a parser read an input; raises whatever is no proper refusal."""
    try:
        TARGETS[target].run(data)
    except ThetaError as error:
        assert str(error)  # noqa: PT017 - that it is refused is right


def fuzz(target: str, seconds: float, seed: int, folder: Path) -> int:
    """Run for so many seconds of processor time, and return how many inputs were read.

    Raises:
        BaseException: An input was neither accepted nor refused; it is saved.
    """
    draw = random.Random(seed)
    seeds = list(TARGETS[target].seeds())
    for data in seeds:
        attempt(target, data)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY + TARGETS[target].reserved, resource.RLIM_INFINITY))
    most = _peak() + MEMORY

    def stop(_: int, __: FrameType | None) -> None:
        raise TooLongError

    signal.signal(signal.SIGPROF, stop)
    path = folder / f"{target.replace(' ', '-')}-{seed}.input"
    count, end = 0, time.process_time() + seconds
    with path.open("wb", buffering=0) as file:
        while time.process_time() < end:
            data = mutated(draw, seeds)
            os.pwrite(file.fileno(), data, 0)
            file.truncate(len(data))  # to nothing first, as write_bytes does, would make ext4 flush each input
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            attempt(target, data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if TARGETS[target].reserved:
                # Memory that threads have freed stays with the process, and grows over many inputs.
                ctypes.CDLL(None).malloc_trim(0)
            assert _peak() <= most, "it took too much memory"
            count += 1
    path.unlink()
    return count


def _peak() -> int:
    """Return the most bytes of memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> int:
    """Fuzz as the command line says."""
    target, seconds, seed, folder = sys.argv[1:]
    try:
        count = fuzz(target, float(seconds), int(seed), Path(folder))
    except BaseException:  # noqa: BLE001 - whatever it was, it is what was looked for
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, 0)
        traceback.print_exc()
        return 1
    sys.stdout.write(f"{target}: {count} inputs in {seconds} CPU s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
