"""Measure merges of two fine-tunes: checkpoints in git-theta and mergekit, and tensors in memory on every device."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.checkpoints import write
from benchmarks.report import markdown
from benchmarks.tools import THETA, Repository, digest, environment, spent
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.devices.open import open_devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.tasks import single_tasks
from git_theta_ext.merging.planning.plan import Plan, plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Manifest, Skeleton
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.checkpoints import Family
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.model.manifest import Parameter

_Spent = tuple[float, float, int]
"""Wall and CPU time in seconds, and the peak memory in bytes."""
METHODS = ("average", "ties")
STREAMED = {"average": 1, "ties": 3}
"""Methods that work by element, and the number of times that they read all data."""
MATRICES = ("slerp", "della", "breadcrumbs", "iso_c", "tsv_m", "knots", "actmat")
OF_BUS = 0.6
"""The lowest rate of a merge on a CUDA device that passes, as a share of the bandwidth of its bus."""
STEP = 7e-5
_TENSORS = 8
_NO_LAYOUT = Skeleton.of(b"")
_BUS_BYTES = 1 << 28
_DTYPES = {"BF16": "bfloat16", "F32": "float32"}


def measure(family: Family, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Measure wall time and memory of three-way merges.

    Args:
        family: The architecture of the checkpoints.
        folder: The folder to work in.
        repetitions: Number of repetitions of each merge, of which the median is taken.

    Raises:
        RuntimeError: A merge did not change the checkpoint.
    """
    folder.mkdir()
    env = environment(folder / "home")
    files = [folder / f"{name}.safetensors" for name in ("base", "ours", "theirs")]
    for number, file in enumerate(files):
        write(file, family, moved=STEP if number else 0.0, branch=number)
    repository = _repository(folder, files, env)
    rows = []
    for method in METHODS:
        samples: dict[str, list[_Spent]] = {"git-theta": []}
        if shutil.which("mergekit-pytorch"):
            samples["mergekit"] = []
        for _ in range(repetitions):
            samples["git-theta"].append(_theta(repository, files, method))
            if "mergekit" in samples:
                samples["mergekit"].append(_mergekit(folder, files, family, method, env))
        for tool, measures in samples.items():
            seconds, spent, peaks = zip(*measures, strict=True)
            row = {"family": family.name, "method": method, "tool": tool, "samples": measures}
            row |= {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(spent)}
            rows.append(row | {"peak_bytes": max(peaks)})
    shutil.rmtree(folder)
    return rows


def _repository(folder: Path, files: list[Path], env: dict[str, str]) -> Repository:
    repository = Repository(folder / "repository", THETA, env)
    base, ours, theirs = files
    for branch, file in (("main", base), ("side", theirs), ("main", ours)):
        if branch == "side":
            repository.git("branch", "--quiet", "side")
        repository.git("checkout", "--quiet", branch)
        repository.put(file)
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", file.stem)
    return repository


def _theta(repository: Repository, files: list[Path], method: str) -> _Spent:
    store = repository.path / ".git" / "theta"
    before = set(store.rglob("packs/*/*"))
    # Without its records, the next repetition would decode all that git add has verified.
    index = {file: file.read_bytes() for file in store.glob("index.sqlite3*")}
    merge = ("-c", f"theta.merge.method={method}", "merge", "--quiet", "-m", "merged", "side")
    measures = repository.spent(*merge)
    if repository.sha256() in {digest(file) for file in files}:
        raise RuntimeError(f"{method} changed nothing")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    # The next repetition must not find the results of this one.
    for pack in {*store.rglob("packs/*/*"), *store.glob("index.sqlite3*")} - before:
        pack.unlink()
    for file, content in index.items():
        file.write_bytes(content)
    return measures


def _mergekit(folder: Path, files: list[Path], family: Family, method: str, env: dict[str, str]) -> _Spent:
    base, *branches = (str(file) for file in files)
    parameters = {"weight": 1.0} | ({"density": 0.2} if method == "ties" else {})
    config: dict[str, Any] = {
        "merge_method": {"average": "linear"}.get(method, method),
        "models": [{"model": branch, "parameters": parameters} for branch in branches],
        "dtype": _DTYPES[family.dtype],
    }
    if method == "ties":
        config["base_model"] = base
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    command = ["mergekit-pytorch", "--quiet", str(folder / "config.yml"), str(folder / "merged")]
    measures = spent(command, folder, env)
    shutil.rmtree(folder / "merged")
    return measures


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown, each as a share of mergekit's too."""
    columns = [
        "checkpoints",
        "method",
        "tool",
        "wall",
        "of mergekit",
        "CPU",
        "of mergekit",
        "peak memory",
        "of mergekit",
    ]
    cells = []
    for row in rows:
        key = (row["family"], row["method"])
        peers = [other for other in rows if other["tool"] == "mergekit" and (other["family"], other["method"]) == key]
        shares = [
            f"{row[measure] / peers[0][measure]:.2f}" if peers else ""
            for measure in ("seconds", "cpu_seconds", "peak_bytes")
        ]
        wall, cpu = f"{row['seconds']:.2f} s", f"{row['cpu_seconds']:.2f} s"
        peak = f"{row['peak_bytes'] / 1e6:.0f} MB"
        cells.append([*key, row["tool"], wall, shares[0], cpu, shares[1], peak, shares[2]])
    return markdown(columns, cells)


def on_devices(side: int, repetitions: int) -> list[dict[str, Any]]:
    """Measure merges of tensors in memory on the CPU and on each CUDA device, including results and digests.

    Args:
        side: Rows and columns of tensors that are streamed; methods that need whole tensors get a quarter.
        repetitions: Number of repetitions of each merge, of which the median is taken.

    Raises:
        RuntimeError: A merge failed.
    """
    used = [*open_devices("cpu", ()).used, *(open_devices("cuda", ()).used if torch.cuda.is_available() else ())]
    rows = []
    for device in used:
        bus = bandwidths(device.name)["to_device"] if device.name != "cpu" else None
        for methods, size, count in ((STREAMED, side, _TENSORS), (MATRICES, max(side // 4, 1), 1)):
            memory = MemoryStore()
            versions = [version(memory, size, count, seed) for seed in range(3)]
            for method in methods:
                planned = plan(versions[0], versions[1:], Rules.only(method))
                row = {"device": device.name, "method": method, "samples": _timed(memory, device, planned, repetitions)}
                row["seconds"] = statistics.median(row["samples"])
                read = sum(member.spec.nbytes for task in single_tasks(planned, {}) for member in task.members)
                row["rate"] = read * STREAMED.get(method, 1) / row["seconds"]
                if bus is not None and method in STREAMED:
                    row |= {"bus": bus, "of_bus": row["rate"] / bus, "passed": row["rate"] >= OF_BUS * bus}
                rows.append(row)
    return rows


def version(memory: MemoryStore, side: int, count: int, seed: int) -> Manifest:
    """Return a version of a model of square matrices in bf16, whose values are in memory."""
    parameters: dict[str, Parameter] = {}
    for number in range(count):
        torch.manual_seed(number)
        weights = 0.02 * torch.randn(side, side)
        torch.manual_seed((seed + 1) * count + number)
        values = (weights + 4 * STEP * torch.randn(side, side)).to(torch.bfloat16)
        data = values.view(torch.uint8).numpy().data
        parameters[f"w{number}"] = memory.add(TensorSpec.of("BF16", (side, side)), data)
    return Manifest("safetensors", _NO_LAYOUT, parameters)


def _timed(memory: MemoryStore, device: Device, planned: Plan, repetitions: int) -> list[float]:
    samples = []
    for _ in range(repetitions + 1):
        engine = Engine(memory, Devices((device,)), results=MemoryStore())
        start = time.perf_counter()
        results = engine.compute(planned)
        samples.append(time.perf_counter() - start)
        if results.failed or results.notes:
            raise RuntimeError(f"{device.name}: {results.failed or results.notes}")
    return samples[1:]  # the first repetition loads libraries


def bandwidths(name: str) -> dict[str, float]:
    """Return the bytes per second between pinned memory and a CUDA device, and from other memory to pinned memory."""
    pinned = torch.empty(_BUS_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(_BUS_BYTES, dtype=torch.uint8, device=name)
    host = torch.zeros(_BUS_BYTES, dtype=torch.uint8)
    copies = {"to_device": (there, pinned), "from_device": (pinned, there), "to_pinned": (pinned, host)}
    rates: dict[str, list[float]] = {way: [] for way in copies}
    for way, (target, source) in copies.items():
        for _ in range(5):
            torch.cuda.synchronize(name)
            start = time.perf_counter()
            target.copy_(source, non_blocking=True)
            torch.cuda.synchronize(name)
            rates[way].append(_BUS_BYTES / (time.perf_counter() - start))
    return {way: statistics.median(each) for way, each in rates.items()}


def devices_table(rows: list[dict[str, Any]]) -> str:
    """Render the figures of ``on_devices`` as Markdown, each as a share of the CPU's time too."""
    columns = ["device", "method", "time", "of cpu", "read", "of the bus", "target", ""]
    cells = []
    for row in rows:
        cpu = next(other["seconds"] for other in rows if (other["device"], other["method"]) == ("cpu", row["method"]))
        bus = ["", "", ""]
        if "of_bus" in row:
            bus = [f"{row['of_bus']:.2f}", f">= {OF_BUS}", "pass" if row["passed"] else "MISS"]
        share = "" if row["device"] == "cpu" else f"{row['seconds'] / cpu:.3f}"
        cells.append(
            [row["device"], row["method"], f"{row['seconds']:.3f} s", share, f"{row['rate'] / 1e9:.2f} GB/s", *bus]
        )
    return markdown(columns, cells)
