"""Measure ``git theta gc`` on a few versions of one checkpoint, by how the versions differ."""

from __future__ import annotations

import resource
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

from benchmarks.checkpoints import Family, llama, save, weights
from benchmarks.report import markdown
from benchmarks.tools import MODEL, THETA, Repository, digest, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    Values = npt.NDArray[np.float32]
    Update = Callable[[Values, np.random.Generator], Values]

FAMILY = Family("100 MB bf16", "BF16", llama(layers=4, width=1024, inner=2736, vocabulary=4_000))
SMALL = Family("10 MB bf16", "BF16", llama(layers=4, width=320, inner=855, vocabulary=1_300))
STEP = 7e-5  # moves weights of 0.02 by as many units in the last place as a fine-tune of about 300 steps
_RANK, _DENSITY, _MATRIX = 8, 0.01, 2


def _tuned(values: Values, generator: np.random.Generator) -> Values:
    return values + np.float32(STEP) * generator.standard_normal(values.shape, dtype=np.float32)


def _slightly_tuned(values: Values, generator: np.random.Generator) -> Values:
    return values + np.float32(STEP / 20) * generator.standard_normal(values.shape, dtype=np.float32)


def _adapted(values: Values, generator: np.random.Generator) -> Values:
    if values.ndim < _MATRIX:
        return values
    up, down = (generator.standard_normal(shape, dtype=np.float32) for shape in _thin(values.shape))
    return values + np.float32(STEP) * (up @ down)


def _thin(shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (shape[0], _RANK), (_RANK, shape[1])


def _sparse(values: Values, generator: np.random.Generator) -> Values:
    return np.where(generator.random(values.shape, np.float32) < _DENSITY, _tuned(values, generator), values)


def _retrained(values: Values, generator: np.random.Generator) -> Values:
    return values.std() * generator.standard_normal(values.shape, dtype=np.float32)


UPDATES: dict[str, tuple[Update, ...]] = {
    "full fine-tunes": (_tuned,),
    "small learning rate": (_slightly_tuned,),
    "merged LoRAs": (_adapted,),
    "1 % of the values": (_sparse,),
    "these four in turn": (_tuned, _slightly_tuned, _adapted, _sparse),
    "trained again": (_retrained,),
}
"""How versions differ from the ones before, in turn."""


@dataclass(frozen=True)
class Floor:
    """CPU seconds of work that any tool does with the same files."""

    copy: float
    sha256: float
    zstd: float

    @classmethod
    def of(cls, paths: list[Path], target: Path) -> Floor:
        """Copy, hash and compress files."""
        compressor = zstandard.ZstdCompressor(level=1)
        copied = _cpu_seconds(lambda: [shutil.copyfile(path, target) for path in paths])
        hashed = _cpu_seconds(lambda: [digest(path) for path in paths])
        compressed = _cpu_seconds(lambda: [compressor.compress(path.read_bytes()) for path in paths])
        target.unlink()
        return cls(copied, hashed, compressed)


def measure(names: list[str], family: Family, count: int, folder: Path) -> list[dict[str, Any]]:
    """Commit versions of a checkpoint, and run ``git theta gc`` once.

    Args:
        names: Which of ``UPDATES`` to measure.
        family: The architecture.
        count: Number of versions.
        folder: The folder to work in.

    Raises:
        RuntimeError: A restored checkpoint differs.
    """
    folder.mkdir()
    env = environment(folder / "home")
    rows = []
    for name in names:
        paths = list(_versions(family, UPDATES[name], count, folder / "versions"))
        repository = Repository(folder / "repository", THETA, env)
        for number, path in enumerate(paths):
            repository.put(path)
            repository.git("add", "--all")
            repository.git("commit", "--quiet", "--message", str(number))
        added = repository.stored()
        seconds, cpu, peak = repository.spent("theta", "gc")
        for number, path in enumerate(paths):
            repository.git("checkout", "--quiet", f"main~{count - 1 - number}")
            if repository.sha256() != digest(path):
                raise RuntimeError(f"{name}: version {number} did not come back")
        rows.append(
            {
                "update": name,
                "raw_bytes": sum(path.stat().st_size for path in paths),
                "added_bytes": added,
                "stored_bytes": repository.stored(),
                "seconds": seconds,
                "cpu_seconds": cpu,
                "peak_bytes": peak,
                "floor": vars(Floor.of(paths, folder / "copy")),
            }
        )
        shutil.rmtree(repository.path)
        shutil.rmtree(folder / "versions")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown."""
    columns = ["versions", "raw", "stored by git add", "after gc", "CPU", "wall", "memory", "cp", "SHA-256", "zstd -1"]
    body = [
        [
            row["update"],
            *(f"{row[size] / 1e6:.1f} MB" for size in ("raw_bytes", "added_bytes", "stored_bytes")),
            *(f"{row[time]:.2f} s" for time in ("cpu_seconds", "seconds")),
            f"{row['peak_bytes'] / 1e6:.0f} MB",
            *(f"{row['floor'][part]:.2f} s" for part in ("copy", "sha256", "zstd")),
        ]
        for row in rows
    ]
    return markdown(columns, body)


def _versions(family: Family, updates: tuple[Update, ...], count: int, folder: Path) -> Iterator[Path]:
    """Write versions of a checkpoint, each of which is an update of the one before."""
    folder.mkdir()
    # Full precision is kept between versions, as a training run does.
    values = {
        name: (weights(family, name, 0).astype("<u4") << 16).view("<f4").reshape(shape)
        for name, shape in family.shapes.items()
    }
    for number in range(count):
        generator = np.random.default_rng([7, number])
        if number:
            update = updates[(number - 1) % len(updates)]
            values = {name: update(array, generator) for name, array in values.items()}
        path = folder / f"{number}-{MODEL}"
        save(path, family, partial(_patterns, values))
        yield path


def _patterns(values: dict[str, Values], name: str) -> np.ndarray:
    return (values[name].view("<u4") >> 16).astype("<u2")


def _cpu_seconds(work: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
