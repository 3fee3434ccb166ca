"""Run the benchmarks that have a table of their own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import FAMILIES

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def _quality(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch

    from benchmarks import adapters, quality, rounds, searches
    from benchmarks.digits import SPLITS, Trainer

    torch.set_num_threads(1)  # these models are too small for more
    trainers = {"perceptron": Trainer("perceptron"), "transformer": Trainer("transformer", (60, 1e-3))}
    splits = arguments.split or [*SPLITS]
    methods = arguments.method or [*quality.METHODS, *adapters.MERGES, searches.NAME]
    trainer, classes = trainers["perceptron"], arguments.classes or rounds.EACH
    if methods == [searches.NAME]:
        return {"searches": searches.run(trainer, arguments.seeds, folder / "searches", splits)}
    models = []
    for name in arguments.model or trainers:
        model_folder = folder / f"quality-{name}"
        models.append(quality.measure(trainers[name], arguments.seeds, model_folder, splits, methods))
        print(quality.table(models[-1]), flush=True)
    results = {"models": models, "adapters": adapters.measure(trainer, arguments.seeds, folder / "adapters", methods)}
    print(adapters.table(results["adapters"]), flush=True)
    if searches.NAME in methods:
        results["searches"] = searches.run(trainer, arguments.seeds, folder / "searches", splits)
    results["rounds"] = rounds.measure(trainer, arguments.seeds, arguments.rounds, classes, folder / "rounds")
    print(rounds.table(results["rounds"]), flush=True)
    return results


def _ssh(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import ssh

    (folder / "ssh").mkdir()
    rows = ssh.measure(arguments.megabytes * 1_000_000, arguments.repeat, folder / "ssh")
    print(ssh.table(rows), flush=True)
    return rows


def _lfs(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import lfs

    (folder / "lfs").mkdir()
    family = FAMILIES[(arguments.family or ["minilm"])[0]]
    files = lfs.versions(arguments.models, arguments.dtype, family, folder / "lfs")
    rows = lfs.measure(files, folder / "lfs", arguments.onto, arguments.rate)
    print(lfs.table(rows), flush=True)
    return rows


def _migration(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import migration

    (folder / "migration").mkdir()
    family = FAMILIES[(arguments.family or ["tiny"])[0]]
    rows = migration.measure(family, arguments.commits, folder / "migration")
    print(migration.table(rows), flush=True)
    return rows


def _formats(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import format_files, formats

    (folder / "formats").mkdir()
    (folder / "files").mkdir()
    if arguments.files:
        files = sorted(path for path in arguments.files.rglob("*") if path.is_file())
    else:
        sizes = (arguments.megabytes // 4, arguments.megabytes)
        files = [path for size in sizes for path in format_files.write_all(folder / "files", size)]
    rows = formats.measure(files, folder / "formats")
    print(formats.table(rows), flush=True)
    return rows


def _shards(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import shards

    rows = []
    for name in arguments.family or ["minilm"]:
        rows += shards.measure(FAMILIES[name], folder / f"shards-{name}", arguments.repeat)
    print(shards.table(rows), flush=True)
    return rows


def _small(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import small

    rows = small.measure(folder / "small", arguments.repeat)
    print(small.table(rows), flush=True)
    return rows


def _diffs(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import diffs

    rows: list[dict[str, Any]] = []
    for name in arguments.family or ["bf16"]:
        found = diffs.measure(FAMILIES[name], folder / f"diff-{name}", arguments.repeat)
        print(diffs.table(found), flush=True)
        rows += found
    return rows


def _gc(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import collection

    family = collection.SMALL if "tiny" in (arguments.family or []) else collection.FAMILY
    names = arguments.update or list(collection.UPDATES)
    rows = collection.measure(names, family, 5, folder / "gc")
    print(f"{family.name}\n\n{collection.table(rows)}\n", flush=True)
    return rows


def _scale(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import scale

    return scale.measure(arguments.axis or [], arguments.upto, folder / "scale")


OTHERS = {
    "diff": _diffs,
    "quality": _quality,
    "ssh": _ssh,
    "lfs": _lfs,
    "migration": _migration,
    "formats": _formats,
    "shards": _shards,
    "mergekit": lambda arguments, folder: import_module("benchmarks.mergekit_values").run(arguments.models, folder),
    "small": _small,
    "log": lambda arguments, folder: import_module("benchmarks.logs").run(arguments, folder),
    "open": lambda arguments, folder: import_module("benchmarks.opening").run(arguments, folder),
    "answers": lambda arguments, folder: import_module("benchmarks.answers").run(arguments, folder),
    "gc": _gc,
    "scale": _scale,
}
"""What has a table of its own."""
