"""Migrate a history of Git LFS with git theta, and with ``git lfs migrate export`` in the same run."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import write
from benchmarks.lfs_host import LfsHost
from benchmarks.report import markdown
from benchmarks.tools import LFS, MODEL, Repository, environment

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.checkpoints import Family

_STEP = 1e-4
"""Standard deviation of the steps between versions."""
_SELECTION = ("--include", "*.safetensors", "--everything")
_FORGET = (
    ("reflog", "expire", "--expire=now", "--all"),
    ("gc", "--quiet", "--prune=now"),
)


def measure(family: Family, commits: int, folder: Path) -> list[dict[str, Any]]:
    """Migrate copies of one repository, and push the results.

    Args:
        family: Architecture of the model.
        commits: Number of versions, one in each commit.
        folder: An existing folder.

    Returns:
        A row for each tool: wall time in seconds, peak memory, and the bytes of ``.git`` and of a push.
    """
    env = environment(folder / "home")
    source = Repository(folder / "source", LFS, env)
    digests = []
    for number in range(commits):
        write(source.model, family, moved=_STEP if number else 0.0, branch=number)
        digests.append(hashlib.sha256(source.model.read_bytes()).hexdigest())
        source.git("add", "--all")
        source.git("commit", "--quiet", "--message", f"version {number}")
    raw = commits * source.model.stat().st_size
    rows = [{"tool": "git-lfs, as it is", "raw": raw, "git": _weight(source), **_pushed(source, folder / "before")}]
    rows.append({"tool": "git lfs migrate export", "raw": raw, **_exported(source, folder / "plain")})
    rows.append({"tool": "git theta migrate import", "raw": raw, **_imported(source, folder / "theta", digests)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render the results as Markdown."""

    def shown(row: dict[str, Any], name: str, unit: float, digits: int = 1) -> str:
        return f"{row[name] / unit:.{digits}f}" if name in row else ""

    figures = [
        [
            row["tool"],
            shown(row, "wall", 1),
            shown(row, "gc", 1),
            shown(row, "memory", 1e6, 0),
            *(shown(row, name, 1e6) for name in ("git", "pushed")),
        ]
        for row in rows
    ]
    heads = ["", "migrate, s", "gc, s", "memory, MB", ".git then, MB", "push, MB"]
    return f"{rows[0]['raw'] / 1e6:.0f} MB of versions\n\n{markdown(heads, figures)}"


def _exported(source: Repository, path: Path) -> dict[str, Any]:
    repo = source.copy(path)
    repo.git("config", "pack.window", "0")  # git finds no differences in weights, and searches for many minutes
    wall, memory = repo.weighed("lfs", "migrate", "export", *_SELECTION)
    gc = sum(repo.timed(*words) for words in _FORGET)
    shutil.rmtree(path / ".git/lfs")
    return {"wall": wall, "gc": gc, "memory": memory, "git": _weight(repo), **_pushed(repo, path.parent / "plain-host")}


def _imported(source: Repository, path: Path, digests: list[str]) -> dict[str, Any]:
    repo = source.copy(path)
    repo.git("theta", "install", "--local")
    wall, memory = repo.weighed("theta", "migrate", "import", *_SELECTION)
    repo.git("update-ref", "-d", "refs/original/refs/heads/main")
    gc = sum(repo.timed(*words) for words in (*_FORGET, ("theta", "gc", "--quiet")))
    shutil.rmtree(path / ".git/lfs")
    for number, digest in enumerate(reversed(digests)):
        version = path.parent / "version"
        repo.git("theta", "export", "--force", f"HEAD~{number}:{MODEL}", str(version))
        if hashlib.sha256(version.read_bytes()).hexdigest() != digest:
            raise AssertionError(f"version {len(digests) - number - 1} is not what it was")
    return {"wall": wall, "gc": gc, "memory": memory, "git": _weight(repo), **_pushed(repo, path.parent / "theta-host")}


def _pushed(repo: Repository, folder: Path) -> dict[str, int]:
    """Push to a new host, and return the bytes that it gets."""
    with closing(LfsHost(folder)) as host:
        repo.git("remote", "add", "host", host.repository())
        repo.git("push", "--quiet", "host", "main")
        repo.git("remote", "remove", "host")
        return {"pushed": sum(request.up for request in host.log)}


def _weight(repo: Repository) -> int:
    return sum(path.stat().st_size for path in (repo.path / ".git").rglob("*") if path.is_file())
