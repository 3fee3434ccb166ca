"""Measure what recoding saves for each kind of data, and the time and memory that a large checkpoint takes."""

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
STEP = 7e-5  # moves weights of 0.02 by as many units in the last place as a fine-tune of about 300 steps


def shares(run: Run, models: Path | None, folder: Path) -> list[Row]:
    """Measure the stored share of the newer checkpoint of every pair, before and after ``git theta gc``.

    Args:
        run: The versions of a training run.
        models: A folder of real fine-tunes. It may have the LoRA that is merged into ``ft_lora``, in
            ``lora_adapter.safetensors``.
        folder: The folder to work in.

    Raises:
        RuntimeError: A restored checkpoint differs.
    """
    rows = [_share(*pair, folder) for pair in trained_pairs(run, folder / "pairs")]
    shutil.rmtree(folder / "pairs")
    if models:
        rows += [_share(*pair, folder) for pair in real_pairs(models)]
        if (models / ADAPTER).exists():
            peft_folder(models / ADAPTER, folder / "adapter", ALPHA)
            for name, base, tuned in real_pairs(models):
                if name.startswith("ft_lora"):
                    update = f"lora={folder / 'adapter'}"
                    rows.append(_share(f"{name}, factors given", base, tuned, folder, update))
                    rows.append(_share(f"{name}, applied by git-theta", base, base, folder, update))
            shutil.rmtree(folder / "adapter")
    return rows


def compared(run: Run, models: Path | None) -> list[tuple[str, Path, Path, Path | None]]:
    """Return the checkpoints that ``bounds`` compares: those of full training, step by step and as a whole."""
    checkpoints: list[tuple[str, Path, Path, Path | None]] = [("consecutive", *run.versions[-2:], run.versions[-3])]
    pairs = real_pairs(models) if models else []
    return checkpoints + [(name, base, tuned, None) for name, base, tuned in pairs if name.startswith("ft_full")]


def large(family: Family, folder: Path) -> list[Row]:
    """Measure time and memory of the commands on a checkpoint, a fine-tune of it, and another after ``git theta gc``.

    Args:
        family: The architecture of the checkpoint.
        folder: The folder to work in.

    Raises:
        RuntimeError: A restored checkpoint differs.
    """
    versions = [folder / f"{name}.safetensors" for name in ("base", "tuned", "again")]
    for number, version in enumerate(versions):
        write(version, family, moved=number * STEP)
    rows: list[Row] = []

    def note(command: str, repository: Repository, *args: str) -> None:
        seconds, peak = repository.weighed(*args)
        stored = repository.stored()
        rows.append({"command": command, "seconds": seconds, "peak_bytes": peak, "stored": stored})

    with _repository(folder) as repository:
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
def _repository(folder: Path) -> Iterator[Repository]:
    repository = Repository(folder / "repository", THETA, environment(folder / "home"))
    yield repository
    shutil.rmtree(repository.path)


def _share(name: str, old: Path, new: Path, folder: Path, update: str = "") -> Row:
    """Commit both files and recode them. The newer file is added with the update, if one is given."""
    with _repository(folder) as repository:
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
        recoded = repository.stored()
        repository.git("checkout", "--quiet", "HEAD~1")
        _check(repository, old)
        repository.git("checkout", "--quiet", "main")
        if repository.sha256() != sha256:
            raise RuntimeError(f"{name}: the newer checkpoint did not come back")
    raw = new.stat().st_size
    return {"kind": name, "raw_bytes": raw, "added": (added - first) / raw, "recoded": (recoded - first) / raw}


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
