"""What recoding gains for each kind of data, and what it takes in time and memory on a large checkpoint."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import write
from benchmarks.kinds import peft_folder, real_pairs, trained_pairs
from benchmarks.report import markdown
from benchmarks.tools import MODEL, THETA, Repository, digest, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.checkpoints import Family
    from benchmarks.training import Run

    Row = dict[str, Any]

ADAPTER, ALPHA = "lora_adapter.safetensors", 16
STEP = 7e-5  # moves weights of 0.02 by as many of their last places as a fine-tune of some 300 steps does


def shares(run: Run, models: Path | None, place: Path) -> list[Row]:
    """Measure the stored share of the newer checkpoint of every pair, before and after ``git theta gc``.

    Args:
        run: Versions that were trained.
        models: Folder of real fine-tunes; with ``lora_adapter.safetensors`` also of a LoRA that ``ft_lora`` has merged.
        place: Folder to work in.

    Raises:
        RuntimeError: A checkpoint did not come back.
    """
    rows = [_share(*pair, place) for pair in trained_pairs(run, place / "pairs")]
    shutil.rmtree(place / "pairs")
    if models:
        rows += [_share(*pair, place) for pair in real_pairs(models)]
        if (models / ADAPTER).exists():
            peft_folder(models / ADAPTER, place / "adapter", ALPHA)
            for name, base, tuned in real_pairs(models):
                if name.startswith("ft_lora"):
                    update = f"lora={place / 'adapter'}"
                    rows.append(_share(f"{name}, factors given", base, tuned, place, update))
                    rows.append(_share(f"{name}, applied by git-theta", base, base, place, update))
            shutil.rmtree(place / "adapter")
    return rows


def compared(run: Run, models: Path | None) -> list[tuple[str, Path, Path, Path | None]]:
    """Return the checkpoints whose differences ``bounds`` looks into: full training, step by step and as a whole."""
    found: list[tuple[str, Path, Path, Path | None]] = [("consecutive", *run.versions[-2:], run.versions[-3])]
    pairs = real_pairs(models) if models else []
    return found + [(name, base, tuned, None) for name, base, tuned in pairs if name.startswith("ft_full")]


def large(family: Family, place: Path) -> list[Row]:
    """Measure time and memory of the commands on a checkpoint, a fine-tune of it, and another after ``git theta gc``.

    Args:
        family: Architecture of the checkpoint.
        place: Folder to work in.

    Raises:
        RuntimeError: A checkpoint did not come back.
    """
    versions = [place / f"{name}.safetensors" for name in ("base", "tuned", "again")]
    for number, version in enumerate(versions):
        write(version, family, moved=number * STEP)
    rows: list[Row] = []

    def note(command: str, repository: Repository, *args: str) -> None:
        seconds, peak = repository.weighed(*args)
        stored = repository.stored()
        rows.append({"command": command, "seconds": seconds, "peak_bytes": peak, "stored": stored})

    with _repository(place) as repository:
        repository.put(versions[0])
        note("git add, base", repository, "add", MODEL)
        repository.git("commit", "--quiet", "--message", "base")
        repository.put(versions[1])
        note("git add, fine-tune", repository, "add", MODEL)
        repository.git("commit", "--quiet", "--message", "tuned")
        note("git theta gc", repository, "theta", "gc")
        repository.put(versions[2])
        note("git add, another after gc", repository, "add", MODEL)
        repository.git("commit", "--quiet", "--message", "again")
        note("git theta gc, again", repository, "theta", "gc")
        for name, version in (("base", 0), ("fine-tune", 1)):
            note(f"git checkout, {name}", repository, "checkout", "--quiet", f"main~{2 - version}")
            _check(repository, versions[version])
    for version in versions:
        version.unlink()
    return rows


@contextmanager
def _repository(place: Path) -> Iterator[Repository]:
    repository = Repository(place / "repository", THETA, environment(place / "home"))
    yield repository
    shutil.rmtree(repository.path)


def _share(name: str, old: Path, new: Path, place: Path, update: str = "") -> Row:
    """Commit both files and recode; where an update is given, it is what makes the newer version."""
    with _repository(place) as repository:
        repository.put(old)
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", "old")
        first = repository.stored()
        repository.put(new)
        if update:
            repository.git("theta", "add", MODEL, "--update", update)
        else:
            repository.git("add", MODEL)
        repository.git("commit", "--quiet", "--message", "new")
        sha256 = repository.sha256()
        added = repository.stored()
        repository.git("theta", "gc")
        kept = repository.stored()
        repository.git("checkout", "--quiet", "HEAD~1")
        _check(repository, old)
        repository.git("checkout", "--quiet", "main")
        if repository.sha256() != sha256:
            raise RuntimeError(f"{name}: the newer checkpoint did not come back")
    raw = new.stat().st_size
    return {"kind": name, "raw_bytes": raw, "added": (added - first) / raw, "recoded": (kept - first) / raw}


def _check(repository: Repository, version: Path) -> None:
    if repository.sha256() != digest(version):
        raise RuntimeError(f"{version.name} did not come back")


def shares_table(rows: list[Row]) -> str:
    """Render the stored shares as Markdown."""
    columns = ["newer checkpoint", "raw", "stored by git add, of raw", "after git theta gc"]
    cells = [
        [row["kind"], f"{row['raw_bytes'] / 1e6:.1f} MB", f"{row['added']:.4f}", f"{row['recoded']:.4f}"]
        for row in rows
    ]
    return markdown(columns, cells)


def large_table(rows: list[Row]) -> str:
    """Render time and memory as Markdown."""
    columns = ["command", "wall", "peak memory", "stored then"]
    cells = [
        [
            row["command"],
            f"{row['seconds']:.2f} s",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
            f"{row['stored'] / 1e6:.1f} MB",
        ]
        for row in rows
    ]
    return markdown(columns, cells)
