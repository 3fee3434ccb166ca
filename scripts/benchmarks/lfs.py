"""Count what a push and a clone send to a host with an LFS server, by git theta and by git-lfs."""

from __future__ import annotations

import resource
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import Family, write
from benchmarks.lfs_host import LfsHost
from benchmarks.report import markdown
from benchmarks.scale_models import MEGABYTE, add_history, add_lfs_history
from benchmarks.tools import LFS, MODEL, THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.tools import Tool

_STEP = 1e-4
"""Standard deviation of the steps of a fine-tune."""

_MANY = Family("10,000 tensors of 8 KB", "BF16", {f"experts.{n}.weight": (64, 64) for n in range(10_000)})
_ONE = Family("one tensor of 80 MB", "BF16", {"weight": (10_000, 64 * 64)})
_COMMITS = 100
_SMALL = Family("four tensors of 8 KB", "BF16", {f"w{n}": (64, 64) for n in range(4)})


def versions(models: Path | None, dtype: str, family: Family, folder: Path) -> list[Path]:
    """Return the versions to push: real fine-tunes, the base first, or two of random weights."""
    if models is not None:
        found = sorted(models.glob(f"*_{dtype}.safetensors"), key=lambda path: (not path.name.startswith("base"), path))
        if found:
            return found
    paths = [folder / "base.safetensors", folder / "fine-tune.safetensors"]
    write(paths[0], family)
    write(paths[1], family, moved=_STEP, branch=1)
    return paths


def measure(files: list[Path], folder: Path, commits: int = 0, rate: float = 0) -> list[dict[str, Any]]:
    """Push the versions one after the other, clone, and push models of many and of few tensors.

    Args:
        files: The versions, the oldest first.
        folder: An existing folder.
        commits: Number of commits of a small model, to which one more is added.
        rate: Megabytes per second of a slow line, through which a second version and a history are pushed.

    Returns:
        A row for each tool and step: requests, bytes in both directions, and wall and CPU time in seconds.
    """
    rows = []
    many, one = folder / "many.safetensors", folder / "one.safetensors"
    write(many, _MANY)
    write(one, _ONE)
    for tool in (THETA, *([LFS] if shutil.which("git-lfs") else [])):
        (folder / tool.name).mkdir()
        with closing(LfsHost(folder / tool.name / "host")) as host:
            steps = _Steps(tool, host, folder / tool.name)
            steps.history(files)
            for name, path in (("one tensor of 80 MB", one), ("10,000 tensors of 8 KB", many)):
                steps.single(name, path)
            if commits:
                steps.onto(commits)
            rows += steps.rows
        if rate:
            with closing(LfsHost(folder / tool.name / "slow-host")) as host:  # which has nothing yet
                steps = _Steps(tool, host, folder / tool.name)
                steps.slowly(files[:2], rate)
                steps.commits_slowly(rate)
                rows += steps.rows
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render the results as Markdown."""
    figures = [
        [
            *(str(row[name]) for name in ("tool", "step", "requests")),
            *(f"{row[way] / 1e6:.2f}" for way in ("up", "down")),
            *(f"{row[time]:.1f} s" for time in ("wall", "cpu")),
        ]
        for row in rows
    ]
    return markdown(["", "step", "requests", "MB up", "MB down", "wall", "CPU"], figures)


class _Steps:
    """What is measured of one tool, on a host of its own.

    Args:
        tool: The tool.
        host: The host, without repositories.
        folder: The folder for repositories.

    Attributes:
        rows: The results.
    """

    def __init__(self, tool: Tool, host: LfsHost, folder: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self._tool = tool
        self._host = host
        self._folder = folder
        self._env = environment(folder / "home")

    def history(self, files: list[Path]) -> None:
        """Push versions of one model, and clone the last one and all of them."""
        repo, url = self._repository("work")
        for path in files:
            _commit(repo, path)
            self._step(f"push {path.stem}", lambda: repo.timed("push", "--quiet", "origin", "main"))
        self._step("push to another branch", lambda: repo.timed("push", "--quiet", "origin", "main:other"))
        theta = self._tool is THETA
        repo.git(*(("theta", "install", "--global") if theta else ("lfs", "install", "--skip-repo")))
        clone, everything = self._folder / "clone", self._folder / "everything"
        self._step("clone", lambda: repo.timed("clone", "--quiet", url, str(clone)))
        if (clone / MODEL).read_bytes() != files[-1].read_bytes():
            raise AssertionError(f"{self._tool.name} clones another file")
        fetch = ("-C", str(everything), "theta" if theta else "lfs", "fetch", "--all")
        self._step(
            "clone of all versions",
            lambda: repo.timed("clone", "--quiet", url, str(everything)) + repo.timed(*fetch),
        )

    def single(self, name: str, path: Path) -> None:
        """Push a repository of one model."""
        repo, _ = self._repository(path.stem)
        _commit(repo, path)
        self._step(f"push {name}", lambda: repo.timed("push", "--quiet", "origin", "main"))

    def onto(self, commits: int) -> None:
        """Push one more commit onto many, each of which changed a small model."""
        repo, _ = self._repository("long")
        for number in range(commits + 1):
            write(repo.model, _SMALL, {"w3": number})
            repo.git("add", "--all")
            repo.git("commit", "--quiet", "--message", str(number))
            if number == commits - 1:
                self._step(f"push {commits:,} commits", lambda: repo.timed("push", "--quiet", "origin", "main"))
        self._step("push one more", lambda: repo.timed("push", "--quiet", "origin", "main"))

    def slowly(self, files: list[Path], rate: float) -> None:
        """Push a version through a slow line, after the one before it; git theta recodes it meanwhile."""
        repo, _ = self._repository("slow")
        _commit(repo, files[0])
        repo.git("push", "--quiet", "origin", "main")
        _commit(repo, files[1])
        self._host.rate = rate * 1e6
        self._step(f"push {files[1].stem} at {rate:g} MB/s", lambda: repo.timed("push", "--quiet", "origin", "main"))
        self._host.rate = None

    def commits_slowly(self, rate: float) -> None:
        """Push many commits of a model of 1 MB through a slow line, each of which changes all of it."""
        repo, _ = self._repository("commits")
        (add_history if self._tool is THETA else add_lfs_history)(repo, _COMMITS, *MEGABYTE)
        self._host.rate = rate * 1e6
        name = f"push {_COMMITS} commits of 1 MB at {rate:g} MB/s"
        self._step(name, lambda: repo.timed("push", "--quiet", "origin", "main"))
        self._host.rate = None

    def _repository(self, name: str) -> tuple[Repository, str]:
        repo = Repository(self._folder / name, self._tool, self._env)
        url = self._host.repository(f"{name}.git")
        repo.git("remote", "add", "origin", url)
        return repo, url

    def _step(self, name: str, run: Callable[[], float]) -> None:
        before, used = len(self._host.log), _cpu()
        wall = run()
        log = self._host.log[before:]
        sent = {way: sum(getattr(request, way) for request in log) for way in ("up", "down")}
        times = {"wall": wall, "cpu": _cpu() - used}
        self.rows.append({"tool": self._tool.name, "step": name, "requests": len(log), **sent, **times})


def _commit(repo: Repository, path: Path) -> None:
    shutil.copyfile(path, repo.model)
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--message", path.stem)


def _cpu() -> float:
    """Return the CPU time of the commands that have ended, in seconds, with that of git on the host."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
