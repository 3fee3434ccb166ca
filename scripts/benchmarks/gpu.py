"""Check merges on a CUDA device: its bus, the operations of merges, whole merges, and the tests in tests/gpu."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from benchmarks.merging import bandwidths, devices_table, on_devices, version
from git_theta_ext.interfaces import Piece, Trim
from git_theta_ext.interfaces.merges import ALL_EQUALS
from git_theta_ext.merging.devices.device import CPU, Devices
from git_theta_ext.merging.devices.open import open_devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.merging.thresholds.radix_select import counts
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.registry import find_merge
from git_theta_ext.store.memory import MemoryStore
from git_theta_ext.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NO_DEVICE = 77
"""The exit code if there is no CUDA device: what test harnesses count as skipped."""

LIMIT = 460
"""Seconds for everything. What would begin in the last ones does not run."""

_LEAST_LEFT = 20
_ZERO = 0.7
_TABLE_SECONDS = 90
_PIECE_METHODS = ("average", "task_arithmetic", "ties", "dare", "consensus_ta", "slerp", "model_stock", "karcher")
_MATRIX_METHODS = ("iso_c", "tsv_m", "actmat", "knots")
_TOO_LARGE = 2.0**-20
"""How much an element may differ from that of the CPU, as a share of the largest change; see docs/merging.md."""


@dataclass
class Check:
    """A run of the check.

    Attributes:
        device: Where to compute: ``cpu`` to try the check itself.
        small: Whether tensors are small.
        deadline: When everything has to be done, by ``time.monotonic``.
        figures: What was measured, by the name of the part.
    """

    device: str
    small: bool
    deadline: float
    figures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.deadline - time.monotonic()

    @property
    def elements(self) -> int:
        """The elements of a piece."""
        return 1 << (14 if self.small else 22)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device != CPU:
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], object], times: int = 5) -> float:
        """Return how long a call takes, without the first one."""
        function()
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            function()
        self.wait()
        return (time.perf_counter() - start) / times

    def note(self, part: str, **row: Any) -> None:
        """Keep and print a figure."""
        self.figures.setdefault(part, []).append(row)
        text = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.items())
        print(f"{part}:", *text, flush=True)


def _bus(check: Check) -> None:
    """Measure the copies that feed a device, and how long a thread waits for an event."""
    if check.device == CPU:
        return
    name = torch.cuda.get_device_name(check.device)
    free, total = torch.cuda.mem_get_info(check.device)
    check.note("bus", device=name, torch=torch.__version__, cuda=torch.version.cuda, free=free, total=total)
    check.note("bus", cpus=len(os.sched_getaffinity(0)), **bandwidths(check.device))


def _counts(check: Check) -> None:
    """Measure counting for thresholds, which must not depend on how the values are distributed."""
    generator = torch.Generator(device=check.device).manual_seed(0)
    normal = torch.randn(check.elements, device=check.device, generator=generator) * 1e-3
    kept = torch.rand(check.elements, device=check.device, generator=generator) > _ZERO
    values = {"normal": normal, "70 % zero": normal * kept, "all zero": normal * 0}
    values["changes of bf16"] = (normal + 1).bfloat16().float() - 1
    for name, vector in values.items():
        first, second = (check.seconds(partial(counts, vector, within)) for within in (-1, 0x3A00))
        check.note("counts", values=name, first_pass=first, second_pass=second)
        if (counts(vector, -1) != counts(vector.cpu().numpy(), -1)).any():
            raise RuntimeError(f"the counts of {name} differ from those of numpy")


def _pieces(check: Check) -> None:
    """Measure what a piece takes of the device, and of Python, which starts the operations."""
    for branches in (2, 3, 8):
        base = torch.randn(check.elements, device=check.device)
        sides = tuple(base + 0.01 * torch.randn_like(base) for _ in range(branches))
        for name in _PIECE_METHODS:
            method = find_merge(name)
            least, most = method.contract.branches
            if least <= branches <= most:
                _piece(check, name, base, sides)


def _piece(check: Check, name: str, base: torch.Tensor, sides: tuple[torch.Tensor, ...]) -> None:
    method, count = find_merge(name), len(sides)
    piece = Piece(
        name="w",
        base=base if method.contract.needs_base else None,
        branches=sides,
        options={option: value.default for option, value in method.contract.options.items()},
        weights=(1.0,) * count,
        trims=(Trim(0x3C449BA6, ALL_EQUALS),) * count,
        keys=tuple(range(1, count + 1)),
    )
    seconds = check.seconds(lambda: method(piece))
    start = time.perf_counter()
    method(piece)
    starting = time.perf_counter() - start
    check.wait()
    row: dict[str, Any] = {"method": name, "branches": count, "seconds": seconds, "starting": starting}
    if check.device != CPU:
        torch.cuda.reset_peak_memory_stats(check.device)
        before = torch.cuda.memory_allocated(check.device)
        method(piece)
        held = torch.cuda.max_memory_allocated(check.device) - before
        row["of_contract"] = held / (4 * (method.contract.scratch((check.elements,), count) + check.elements))
    check.note("pieces", **row)


def _lanes(check: Check) -> None:
    """Measure whole merges of tensors in memory by numbers of threads, and compare their bits."""
    side, count = (48, 2) if check.small else (4096, 16)
    for threads in (1, 2, 4, 8, 16):
        memory = MemoryStore(threads)
        versions = [version(memory, side, count, seed) for seed in range(3)]
        for method in ("average", "ties"):
            results = []
            for device in dict.fromkeys([check.device, CPU]):
                engine = Engine(memory, Devices(open_devices(device, ()).used), results=MemoryStore())
                start = time.perf_counter()
                results.append(engine.compute(plan(versions[0], versions[1:], Rules.only(method))))
                seconds = time.perf_counter() - start
                rate = 3 * count * side * side * 2 / seconds / 1e9
                check.note(
                    "lanes", method=method, threads=threads, device=device, seconds=seconds, gigabytes_a_second=rate
                )
            if any(found.failed or found.notes or found.values != results[0].values for found in results):
                raise RuntimeError(
                    f"{method} on {check.device}: other bits, or {results[0].failed or results[0].notes}"
                )
        if check.small:
            return


def _tests(check: Check) -> None:
    """Run tests/gpu in the time that is left."""
    if check.device == CPU:
        return
    tests = Path(__file__).parents[2] / "tests" / "gpu"
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=10", "--no-header", str(tests)]
    start = time.perf_counter()
    done = subprocess.run(command, check=False, timeout=max(check.left - _TABLE_SECONDS, _LEAST_LEFT))
    check.note("tests", exit_code=done.returncode, seconds=time.perf_counter() - start)
    if done.returncode:
        raise RuntimeError("tests in tests/gpu failed")


def _matrices(check: Check) -> None:
    """Measure what a GPU gains most at, and compare with the CPU."""
    side = 24 if check.small else 1024
    base = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    sides = tuple(base + 0.01 * torch.randn(side, side, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    for name in _MATRIX_METHODS:
        method = find_merge(name)
        options = {option: value.default for option, value in method.contract.options.items()}
        here = Piece("w", base, sides, options, (1.0, 1.0))
        there = Piece("w", base.to(check.device), tuple(s.to(check.device) for s in sides), options, (1.0, 1.0))
        seconds = check.seconds(partial(method, there), 1)
        start = time.perf_counter()
        expected: Any = method(here)
        on_cpu = time.perf_counter() - start
        found, again = (cast("Any", method(there)) for _ in range(2))
        error = float((found.cpu() - expected).abs().max() / (expected - base).abs().max())
        same = bool(torch.equal(found, again))
        check.note("matrices", method=name, side=side, seconds=seconds, on_cpu=on_cpu, error=error, same_again=same)
        if error > _TOO_LARGE and name != "knots":  # an element may move across its threshold
            raise RuntimeError(f"{name} differs by {error:.3g} of the largest change")


def _decode(check: Check) -> None:
    """Measure the store's decoders by numbers of threads: do they feed the bus?"""
    side, count = (48, 2) if check.small else (4096, 8)
    spec, memory = TensorSpec.of("BF16", (side, side)), MemoryStore()
    values = [memory.read(p.digest, p.spec) for p in version(memory, side, count, 0).parameters.values()]
    items = [(spec, tensor_digest(spec, data), data) for data in values]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.put(items)
        for threads in (1, 2, 4, 8, 16):
            start = time.perf_counter()
            for _ in store.read_aligned([[(digest, spec)] for spec, digest, _ in items], threads=threads):
                pass
            rate = count * spec.nbytes / (time.perf_counter() - start) / 1e9
            check.note("decode", threads=threads, gigabytes_a_second=rate)
        store.close()


def _table(check: Check) -> None:
    """Measure all methods on all devices; see docs/benchmarks.md."""
    rows = on_devices(48 if check.small else 4096, 1)
    check.figures["table"] = rows
    print(devices_table(rows), flush=True)


PARTS: dict[str, Callable[[Check], None]] = {
    "bus": _bus,
    "counts": _counts,
    "pieces": _pieces,
    "lanes": _lanes,
    "matrices": _matrices,
    "tests": _tests,
    "decode": _decode,
    "table": _table,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check, print its figures, and return the exit code: 0, 1 if a part failed, or 77 without a CUDA device.

    Args:
        argv: The arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try the check itself on small tensors")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args(argv)
    if arguments.device != CPU and not torch.cuda.is_available():
        print(f"error: torch {torch.__version__} finds no CUDA device: nothing was checked", file=sys.stderr)
        print("hint: scripts/gpu-check --device cpu tries the check itself", file=sys.stderr)
        return NO_DEVICE
    check = Check(arguments.device, arguments.device == CPU, time.monotonic() + LIMIT)
    failed = [name for name in arguments.parts or PARTS if not _passes(check, name)]
    if arguments.json:
        arguments.json.write_text(json.dumps({"failed": failed, "figures": check.figures}, indent=1) + "\n")
    print(f"failed: {', '.join(failed)}" if failed else "all parts passed")
    return 1 if failed else 0


def _passes(check: Check, name: str) -> bool:
    """Run a part, if there is time, and return whether it ran without an error."""
    if check.left < _LEAST_LEFT:
        print(f"{name}: no time is left")
        return False
    try:
        PARTS[name](check)
    except Exception:  # noqa: BLE001 - whatever it is, the other parts say something
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    faulthandler.dump_traceback_later(LIMIT + _LEAST_LEFT, exit=True)  # a device may hang
    sys.exit(main())
