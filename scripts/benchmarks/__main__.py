"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import FAMILIES
from benchmarks.jobs import JOBS, measure
from benchmarks.report import machine, summarise, table
from benchmarks.scale import add_options
from benchmarks.tools import LFS, PLAIN, THETA

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAINED_JOBS = ("history", "recode")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the selected benchmarks, and print and save their results.

    Args:
        argv: The arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure git-theta against its peers.")
    parser.add_argument(
        "jobs",
        nargs="*",
        choices=[*JOBS, "all", *TRAINED_JOBS, *OTHERS],
        default="all",
        help="what to measure: daily jobs (all of them), the storage of a history, the gain of recoding, "
        "what merged models know, transfers by ssh and to an LFS server, the migration of a history of git-lfs, "
        "each file format, a model in shards, many small checkpoints, the commands that show a history, how the "
        "time of commands grows, single tensors in Python, what other tools answer about a change, or the values of "
        "merges against mergekit",
    )
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="checkpoints (bf16 and fp32)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions; medians are shown (3)")
    parser.add_argument("--plain", action="store_true", help="also plain git, which takes minutes")
    parser.add_argument(
        "--megabytes",
        type=int,
        default=60,
        metavar="N",
        help="of the file that goes by ssh, or of a model in each format (60)",
    )
    parser.add_argument(
        "--commits", type=int, default=200, metavar="N", help="of the history that is migrated or shown (200)"
    )
    parser.add_argument("--onto", type=int, default=0, metavar="N", help="lfs: push N commits, then one more (0)")
    parser.add_argument("--rate", type=float, default=0, metavar="N", help="lfs: also push at N megabytes a second (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--update", action="append", metavar="NAME", help="gc: how versions differ (all ways)")
    parser.add_argument("--files", type=Path, metavar="DIR", help="formats: these files")
    add_options(parser.add_argument_group("scale"))
    parser.add_argument("--peers", type=Path, metavar="DIR", help="answers: environments of other tools")
    _add_history_options(parser.add_argument_group("history, recode and merge"))
    _add_quality_options(parser.add_argument_group("quality"))
    arguments = parser.parse_args(argv)
    about = machine()
    print(" ".join(f"{key}={value}" for key, value in about.items()), end="\n\n")
    jobs = set(JOBS) if "all" in arguments.jobs else set(arguments.jobs)
    with tempfile.TemporaryDirectory(prefix="git-theta-bench.") as folder:
        results = {"machine": about}
        if jobs & set(JOBS):
            results["families"] = _daily(arguments, jobs, Path(folder))
        if jobs & set(TRAINED_JOBS):
            results |= _large(arguments, jobs, Path(folder))
        if "merge" in arguments.jobs:
            results |= _merges(arguments, Path(folder))
        for name, run in OTHERS.items():
            if name in jobs:
                results[name] = run(arguments, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def _add_history_options(group: Any) -> None:
    group.add_argument("--work", type=Path, metavar="DIR", help="keep what is trained there, for the next time")
    group.add_argument("--base", type=Path, metavar="FILE", help="BERT encoder to train on (one of random weights)")
    group.add_argument("--encoder", choices=["minilm", "tiny encoder"], default="minilm", help="its shapes (minilm)")
    group.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="type of the saved versions (bf16)")
    group.add_argument("--versions", type=int, default=50, metavar="N", help="versions saved (50)")
    group.add_argument("--steps", type=int, default=4, metavar="N", help="optimizer steps between them (4)")
    group.add_argument("--special", type=int, default=10, metavar="N", help="every how many is special (10)")
    group.add_argument("--limit", type=float, default=1200, metavar="SECONDS", help="give a gc up after that (1200)")
    group.add_argument("--models", type=Path, metavar="DIR", help="real fine-tunes: base_DTYPE and NAME_DTYPE files")
    group.add_argument("--side", type=int, default=4096, metavar="N", help="rows of matrices in memory (4096)")


def _add_quality_options(group: Any) -> None:
    group.add_argument("--seeds", type=int, default=5, metavar="N", help="other examples and first values each (5)")
    group.add_argument("--rounds", type=int, default=5, metavar="N", help="of ColD Fusion (5)")
    group.add_argument("--classes", action="append", type=int, metavar="N", help="of a contributor there (5, 7 and 10)")
    group.add_argument("--model", action="append", choices=["perceptron", "transformer"], help="what is trained (both)")
    group.add_argument("--split", action="append", metavar="NAME", help="halves, pairs or shards (all)")
    group.add_argument("--method", action="append", metavar="NAME", help="of merging, or search (all)")


def _daily(arguments: argparse.Namespace, jobs: set[str], folder: Path) -> list[dict[str, Any]]:
    tools = [THETA, *([LFS] if shutil.which("git-lfs") else []), *([PLAIN] if arguments.plain else [])]
    if LFS not in tools:
        print("git-lfs is not installed: no ratios (on Debian: apt-get install git-lfs)\n")
    summaries = []
    for name in arguments.family or ["bf16", "fp32"]:
        (folder / name).mkdir()
        samples = measure(FAMILIES[name], tools, jobs, arguments.repeat, folder / name)
        summaries.append(summarise(FAMILIES[name], samples))
        print(table(summaries[-1]), flush=True)
    return summaries


def _merges(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from benchmarks import merging

    rows = []
    for name in arguments.family or ["fp32", "bf16"]:
        rows += merging.measure(FAMILIES[name], folder / f"merge-{name}", arguments.repeat)
    print(merging.table(rows), end="\n\n", flush=True)
    devices = merging.on_devices(arguments.side, arguments.repeat)
    print(merging.devices_table(devices), flush=True)
    return {"merges": rows, "devices": devices}


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


def _large(arguments: argparse.Namespace, jobs: set[str], folder: Path) -> dict[str, Any]:
    # These need torch, which the daily jobs do without.
    from benchmarks import bounds, codecs, history, recode
    from benchmarks.training import Plan, checkpoints

    plan = Plan(
        base=arguments.base,
        family=arguments.encoder,
        dtype=arguments.dtype,
        versions=arguments.versions,
        steps=arguments.steps,
        special=arguments.special,
    )
    run = checkpoints(plan, arguments.work or folder / "trained")
    results: dict[str, Any] = {}
    if "history" in jobs:
        results["history"] = history.measure(run.versions, folder, arguments.limit)
        print(history.table(results["history"]), flush=True)
    if "recode" in jobs:
        family = FAMILIES[(arguments.family or ["bf16"])[0]]
        results["encodings"] = codecs.measure(arguments.side, arguments.repeat)
        print(codecs.table(results["encodings"]), end="\n\n", flush=True)
        results["shares"] = recode.shares(run, arguments.models, folder)
        print(recode.shares_table(results["shares"]), end="\n\n", flush=True)
        results["bounds"] = bounds.measure(recode.compared(run, arguments.models))
        print(bounds.table(results["bounds"]), end="\n\n", flush=True)
        results["large"] = recode.large(family, folder)
        print(f"{family.name}\n\n{recode.large_table(results['large'])}\n", flush=True)
    return results


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
    "mergekit": lambda _, folder: import_module("benchmarks.mergekit_values").run(folder),
    "small": _small,
    "log": lambda arguments, folder: import_module("benchmarks.logs").run(arguments, folder),
    "open": lambda arguments, folder: import_module("benchmarks.opening").run(arguments, folder),
    "answers": lambda arguments, folder: import_module("benchmarks.answers").run(arguments, folder),
    "gc": _gc,
    "scale": _scale,
}
"""What has a table of its own."""


if __name__ == "__main__":
    main()
