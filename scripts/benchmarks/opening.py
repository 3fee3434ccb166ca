"""Measure what reading single tensors of an old version takes in Python: time, bytes read, and bytes fetched."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import FAMILIES, write
from benchmarks.lfs_host import LfsHost
from benchmarks.report import markdown
from benchmarks.tools import MODEL, THETA, Repository, environment

if TYPE_CHECKING:
    import argparse

    from benchmarks.checkpoints import Family

OLD = "HEAD~1"
_STEP = 1e-4


def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure the families of the command line, and print the figures."""
    rows: list[dict[str, Any]] = []
    for name in arguments.family or ["bf16"]:
        found = measure(FAMILIES[name], folder / f"open-{name}", arguments.repeat)
        print(table(found), flush=True)
        rows += found
    return rows


def measure(family: Family, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Read parts of an old version: of a full repository, and of bare clones of a directory and of an LFS server.

    Args:
        family: The architecture of the model. The old version is a fine-tune of an older one.
        folder: The folder to work in.
        repetitions: Number of repetitions, of which the median is taken.
    """
    folder.mkdir()
    env = environment(folder / "home")
    repository = Repository(folder / "repository", THETA, env)
    repository.git("config", "theta.gcGrace", "0")
    largest, *matrices = sorted(family.shapes, key=lambda name: -_elements(family, name))
    for number in range(3):  # all moves, then one tensor
        changed = {matrices[-1]: 1} if number == 2 else {}  # noqa: PLR2004 - the last of three
        nbytes = write(repository.model, family, changed, moved=_STEP * min(number, 1), branch=1)
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", f"version {number}")
    repository.git("theta", "gc")
    repository.model.unlink()
    single = next(name for name in matrices if "11" in name or "1." in name)
    layer = [name for name in family.shapes if name.startswith(f"{single.rpartition('.')[0].rpartition('.')[0]}.")]
    tasks = {
        "one tensor": {"names": [single]},
        f"{len(layer)} tensors": {"names": layer},
        "8 rows of the largest tensor": {"names": [largest], "rows": 8},
        "the whole model": {"names": list(family.shapes)},
    }
    rows = []
    with closing(LfsHost(folder / "host")) as host:
        remotes = {"directory": str(folder / "shared.git"), "LFS server": host.repository("models.git")}
        repository.git("init", "--quiet", "--bare", "--initial-branch=main", remotes["directory"])
        for url in remotes.values():
            repository.git("push", "--quiet", url, "HEAD:refs/heads/main")
        for task, asked in tasks.items():
            samples = [_read(repository.path, asked, env) for _ in range(repetitions)]
            row = {"family": family.name, "bytes": nbytes, "task": task, **samples[-1]}
            row["seconds"] = statistics.median(sample["seconds"] for sample in samples)
            for remote, url in remotes.items():
                if task != "the whole model":
                    clone = folder / f"clone-{len(rows)}-{remote.partition(' ')[0]}.git"
                    repository.git("clone", "--quiet", "--bare", url, str(clone))
                    row[remote] = _fetched(clone, None if remote == "directory" else host, asked, env)
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown."""
    cells = []
    for row in rows:
        fetched = [_megabytes(row[name]["bytes"]) if name in row else "" for name in ("directory", "LFS server")]
        times = [f"{row[name]['seconds']:.2f} s" if name in row else "" for name in ("directory", "LFS server")]
        cells.append(
            [
                row["task"],
                _megabytes(row["tensor_bytes"]),
                _megabytes(row["stored_bytes"]),
                f"{row['seconds']:.2f} s",
                _megabytes(row["read_bytes"]),
                *(word for pair in zip(fetched, times, strict=True) for word in pair),
            ]
        )
    title = f"old version of {rows[0]['family']}"
    head = [title, "values", "stored, with bases", "time", "read", "fetched (directory)", "", "fetched (LFS)", ""]
    return markdown(head, cells)


def _elements(family: Family, name: str) -> int:
    count = 1
    for length in family.shapes[name]:
        count *= length
    return count


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.2f} MB"


def _read(repository: Path, asked: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """Read in a fresh process; see ``main`` for the result."""
    command = [sys.executable, "-m", "benchmarks.opening", str(repository)]
    importing = env | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        command, env=importing, input=json.dumps(asked), check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _fetched(clone: Path, host: LfsHost | None, asked: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    before = len(host.log) if host else 0
    seconds = _read(clone, asked, env)["seconds"]
    if host is None:
        kept = [path for path in (clone / "theta").rglob("*") if path.is_file() and "sqlite" not in path.name]
        return {"bytes": sum(path.stat().st_size for path in kept), "seconds": seconds}
    log = host.log[before:]
    return {"bytes": sum(request.down for request in log), "requests": len(log), "seconds": seconds}


def main() -> None:
    """Read what the arguments name, and print what it took as JSON; the imports are not counted."""
    import torch

    import git_theta_ext
    from git_theta_ext.api.versions import LOG, version_of
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.util.reporter import LogReporter

    repository, asked = Path(sys.argv[1]), json.load(sys.stdin)
    names = asked["names"]
    _, before, start = torch.zeros(1), _bytes_read(), time.perf_counter()
    with git_theta_ext.open(MODEL, rev=OLD, repository=repository) as model:
        if "rows" in asked:
            tensors = [model.get_slice(name)[: asked["rows"]] for name in names]
        else:
            tensors = list(model.get_tensors(names).values())
        seconds, read = time.perf_counter() - start, _bytes_read() - before
    with Workspace.discover(LogReporter(LOG), repository) as workspace:
        version = version_of(workspace.repo, f"{OLD}:{MODEL}", repository)
        blobs = workspace.store.blobs({version.parameters[name].digest for name in names})
        stored = sum(blob.entry.stored for blob in blobs.values())
    values = sum(tensor.nbytes for tensor in tensors)
    print(json.dumps({"seconds": seconds, "read_bytes": read, "tensor_bytes": values, "stored_bytes": stored}))


def _bytes_read() -> int:
    """Return how many bytes this process has read so far, also from the cache and from pipes."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


if __name__ == "__main__":
    main()
