"""Count what a push and a clone send to a host with an LFS server, by git theta and by git-lfs."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import write
from benchmarks.lfs_host import LfsHost
from benchmarks.report import markdown
from benchmarks.tools import LFS, MODEL, THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.checkpoints import Family
    from benchmarks.tools import Tool

_STEP = 1e-4
"""Standard deviation of the steps of a fine-tune."""


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


def measure(files: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Push the versions one after the other, and clone.

    Args:
        files: The versions, the oldest first.
        folder: An existing folder.

    Returns:
        A row for each tool and step: requests, bytes in both directions, and wall time in seconds.
    """
    rows = []
    for tool in (THETA, *([LFS] if shutil.which("git-lfs") else [])):
        (folder / tool.name).mkdir()
        with closing(LfsHost(folder / tool.name / "host")) as host:
            rows += _measured(tool, files, host, folder / tool.name)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render the results as Markdown."""
    figures = [
        [
            *(str(row[name]) for name in ("tool", "step", "requests")),
            *(f"{row[way] / 1e6:.2f}" for way in ("up", "down")),
            f"{row['wall']:.1f} s",
        ]
        for row in rows
    ]
    return markdown(["", "step", "requests", "MB up", "MB down", "wall"], figures)


def _measured(tool: Tool, files: list[Path], host: LfsHost, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def step(name: str, run: Callable[[], float]) -> None:
        before = len(host.log)
        wall = run()
        log = host.log[before:]
        sent = {way: sum(getattr(request, way) for request in log) for way in ("up", "down")}
        rows.append({"tool": tool.name, "step": name, "requests": len(log), **sent, "wall": wall})

    env = environment(folder / "home")
    repo = Repository(folder / "work", tool, env)
    url = host.repository()
    repo.git("remote", "add", "origin", url)
    for path in files:
        shutil.copyfile(path, repo.model)
        repo.git("add", "--all")
        repo.git("commit", "--quiet", "--message", path.stem)
        step(f"push {path.stem}", lambda: repo.timed("push", "--quiet", "origin", "main"))
    step("push to another branch", lambda: repo.timed("push", "--quiet", "origin", "main:other"))
    commands = (("theta", "install", "--global"),) if tool is THETA else (("lfs", "install", "--skip-repo"),)
    for command in commands:
        repo.git(*command)
    step("clone", lambda: repo.timed("clone", "--quiet", url, str(folder / "clone")))
    if (folder / "clone" / MODEL).read_bytes() != files[-1].read_bytes():
        raise AssertionError(f"{tool.name} clones another file")
    return rows
