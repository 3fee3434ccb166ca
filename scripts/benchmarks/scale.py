"""Measure how the CPU time of commands grows with the size, tensors, files, commits and branches of a repository."""

from __future__ import annotations

import math
import shutil
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.report import markdown
from benchmarks.scale_models import MEGABYTE, add_branches, add_history, add_lfs_history, write_model
from benchmarks.tools import LFS, MODEL, THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Row = dict[str, Any]

SMALL = 4096
"""Bytes of a small tensor."""

_LITTLE = (4, SMALL)
"""The same of a long history."""

MOST = 1.05
"""The largest exponent that counts as linear: noise and the caches of a CPU add to it."""


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        unit: What the steps count.
        steps: The steps.
        measure: Measures a step in a folder.
    """

    unit: str
    steps: tuple[int, ...]
    measure: Callable[[int, Path, dict[str, str]], dict[str, float]]


def add_options(group: Any) -> None:
    """Add the options of this benchmark to a group of arguments."""
    group.add_argument("--axis", action="append", choices=list(AXES), help="what grows (everything, one at a time)")
    group.add_argument("--upto", type=int, metavar="N", help="the largest step (no limit)")


def measure(names: list[str], upto: int | None, folder: Path) -> list[Row]:
    """Return the CPU seconds of each command at each step of some axes.

    Args:
        names: Names of axes; none for all.
        upto: The largest step; None for no limit.
        folder: The folder to work in.
    """
    folder.mkdir()
    env = environment(folder / "home")
    rows: list[Row] = []
    for name in names or AXES:
        axis = AXES[name]
        steps = [step for step in axis.steps if upto is None or step <= upto]
        place = folder / "step"
        figures: dict[str, dict[int, float]] = {}
        for step in steps:
            place.mkdir()
            for command, seconds in axis.measure(step, place, env).items():
                figures.setdefault(command, {})[step] = seconds
            shutil.rmtree(place)
        rows += [_row(name, axis.unit, command, by_step) for command, by_step in figures.items()]
        print(table([row for row in rows if row["axis"] == name]), flush=True)
    return rows


def _row(axis: str, unit: str, command: str, seconds: dict[int, float]) -> Row:
    growth = {"exponents": exponents(seconds), "fit": fitted_exponent(seconds), "each_more": each_more(seconds)}
    return {"axis": axis, "unit": unit, "command": command, "cpu_seconds": seconds, **growth}


def fitted_exponent(seconds: dict[int, float]) -> float | None:
    """Return the exponent of the growth by least squares over the logarithms of all steps; None for a single step."""
    if len(seconds) < 2:  # noqa: PLR2004 - a line needs two points
        return None
    return statistics.linear_regression(list(map(math.log, seconds)), list(map(math.log, seconds.values()))).slope


def exponents(seconds: dict[int, float]) -> list[float]:
    """Return the exponent of the growth between each two steps that follow each other, given the time of each step."""
    return [
        math.log(seconds[after] / seconds[before]) / math.log(after / before)
        for before, after in zip(seconds, [*seconds][1:], strict=False)
    ]


def each_more(seconds: dict[int, float]) -> float | None:
    """Return the seconds that one more takes between the last two steps; None for a single step."""
    if len(seconds) < 2:  # noqa: PLR2004 - a line needs two points
        return None
    (before, fewer), (after, more) = [*seconds.items()][-2:]
    return (more - fewer) / (after - before)


def table(rows: list[Row]) -> str:
    """Render the CPU seconds of an axis, the exponents, and what one more takes."""
    if not rows:
        return ""
    steps = max((list(row["cpu_seconds"]) for row in rows), key=len)
    cells = []
    for row in rows:
        figures = [f"{row['cpu_seconds'][step]:.2f}" if step in row["cpu_seconds"] else "" for step in steps]
        growth = [_verdict(row["fit"]), _verdict((row["exponents"] or [None])[-1]), _short(row["each_more"])]
        cells.append([row["command"], *figures, *growth])
    steps_of = [f"{step:,} {rows[0]['unit']}" for step in steps]
    columns = [rows[0]["axis"], *steps_of, "exponent", "of the last two", "for one more"]
    return markdown(columns, cells) + "\n"


def _verdict(exponent: float | None) -> str:
    return "" if exponent is None else f"{exponent:.2f}{' MISS' if exponent > MOST else ''}"


def _short(seconds: float | None) -> str:
    """Render what one more takes."""
    return "" if seconds is None else f"{seconds * 1e3:.3f} ms"


class _Steps:
    """Runs commands in a repository with a bare host, and notes their CPU seconds."""

    def __init__(self, place: Path, env: dict[str, str], tool: Any = THETA) -> None:
        self.repository = Repository(place / tool.name, tool, env)
        self.spent: dict[str, float] = {}
        self._host, self._clone = place / f"{tool.name}.host", place / f"{tool.name}.clone"
        self.repository.git("init", "--quiet", "--bare", "--initial-branch=main", str(self._host))
        self.repository.git("remote", "add", "origin", self._host.as_uri() if tool is LFS else str(self._host))

    def run(self, name: str, *args: str) -> None:
        """Run git and note the time under a name."""
        self.spent[name] = self.repository.spent(*args)[1]

    def commit(self, message: str) -> None:
        """Stage and commit the work tree."""
        self.repository.git("add", "--all")
        self.repository.git("commit", "--quiet", "--message", message)

    def transfer(self) -> None:
        """Push all branches, and clone."""
        self.run("push", "push", "--quiet", "--all", "origin")
        settings = self.repository.git("config", "--local", "--get-regexp", r"^filter\.theta\.").splitlines()
        filters = [part for line in settings for part in ("-c", line.replace(" ", "=", 1))]
        self.run("clone", "clone", "--quiet", *filters, str(self._host), str(self._clone))
        shutil.rmtree(self._clone)

    def maintain(self) -> None:
        """Run the commands that look at everything, first after changes, then without any."""
        self.run("gc, first", "theta", "gc", "--quiet")
        self.repository.git("theta", "gc", "--quiet")  # finds out that there is nothing left to do
        self.run("gc, again", "theta", "gc", "--quiet")
        for command in (("status",), ("ls-files",), ("log", "-1")):
            self.run(" ".join(command), "theta", *command)
        for name in ("du", "fsck"):  # packs that have just been written are read each time
            self.run(name, "theta", name)
            self.run(f"{name}, again", "theta", name)


def _versions(place: Path, env: dict[str, str], write: Callable[[Repository, int], None]) -> dict[str, float]:
    """Measure a repository with three versions of everything in its work tree."""
    steps = _Steps(place, env)
    write(steps.repository, 0)
    steps.run("add", "add", "--all")
    for version in (1, 2):
        steps.commit("before")
        write(steps.repository, version)
    steps.commit("last")
    steps.run("diff --stat", "theta", "diff", "--stat", "HEAD~1", "HEAD")
    steps.run("checkout", "checkout", "--quiet", "HEAD~1")
    steps.repository.git("checkout", "--quiet", "main")
    steps.transfer()
    steps.maintain()
    return steps.spent


def _sizes(megabytes: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    def write(repository: Repository, version: int) -> None:
        write_model(repository.model, 32, megabytes * 1_000_000 // 32 // 2 * 2, version)

    return _versions(place, env, write)


def _tensors(tensors: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    return _versions(place, env, lambda repository, version: write_model(repository.model, tensors, SMALL, version))


def _one_tensor(tensors: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    """Measure a file of the size of ``_tensors`` with few tensors, in the same run."""

    def write(repository: Repository, version: int) -> None:
        write_model(repository.model, 10, tensors * SMALL // 10, version)

    return _versions(place, env, write)


def _files(files: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    def write(repository: Repository, version: int) -> None:
        for number in range(files):
            folder = repository.path / f"run-{number}"
            folder.mkdir(exist_ok=True)
            write_model(folder / MODEL, 4, SMALL, version, seed=number)

    return _versions(place, env, write)


def _commits(commits: int, place: Path, env: dict[str, str], model: tuple[int, int] = MEGABYTE) -> dict[str, float]:
    steps = _Steps(place, env)
    add_history(steps.repository, commits, *model)
    steps.transfer()
    steps.maintain()
    write_model(steps.repository.model, *model, commits)
    steps.run("add", "add", "--all")
    steps.commit("one more")
    steps.run("push, one more", "push", "--quiet", "origin", "main")
    steps.run("gc, one more", "theta", "gc", "--quiet")
    steps.run("checkout", "checkout", "--quiet", "HEAD~1")
    if shutil.which("git-lfs"):
        lfs = _Steps(place, env, LFS)
        add_lfs_history(lfs.repository, commits, *model)
        lfs.run("push", "push", "--quiet", "--all", "origin")
        steps.spent["push by git-lfs"] = lfs.spent["push"]
    return steps.spent


def _long(commits: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    return _commits(commits, place, env, _LITTLE)


def _branches(branches: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    steps = _Steps(place, env)
    add_branches(steps.repository, branches, *MEGABYTE)
    steps.run("checkout", "checkout", "--quiet", "branch-0")
    steps.repository.git("checkout", "--quiet", "main")
    steps.transfer()
    steps.maintain()
    return steps.spent


def _heads(heads: int, place: Path, env: dict[str, str]) -> dict[str, float]:
    steps = _Steps(place, env)
    add_branches(steps.repository, heads, *MEGABYTE)
    names = [f"branch-{number}" for number in range(heads)]
    method = ("-c", "theta.merge.method=average")
    steps.run("merge", *method, "merge", "--quiet", "-s", "theta", "-m", "merged", *names)
    return steps.spent


AXES = {
    "size": Axis("MB", (100, 400, 1000, 2000, 8000), _sizes),
    "tensors": Axis("of 4 kB", (100, 1000, 10_000, 100_000), _tensors),
    "few tensors": Axis("times 4 kB in 10", (100, 1000, 10_000, 100_000), _one_tensor),
    "files": Axis("files", (1, 10, 100, 1000), _files),
    "commits": Axis("commits", (10, 100, 1000), _commits),
    "small commits": Axis("commits", (100, 1000, 10_000), _long),
    "branches": Axis("branches", (1, 10, 100), _branches),
    "heads": Axis("branches merged", (2, 8, 32), _heads),
}
"""What can grow, by name."""
