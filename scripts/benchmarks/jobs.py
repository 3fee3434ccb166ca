"""Measure everyday operations. Within a repetition the tools take turns, so that noise affects all of them."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.checkpoints import write
from benchmarks.tools import MODEL, THETA, Repository, environment, floor

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.checkpoints import Family
    from benchmarks.tools import Tool

JOBS = ("add", "status", "checkout", "merge")


@dataclass
class Samples:
    """Figures by measure and tool: seconds, counts or bytes, one per repetition."""

    raw_bytes: int = 0
    figures: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, measure: str, tool: str, figure: float) -> None:
        """Add a figure."""
        self.figures[measure, tool].append(figure)


@dataclass(frozen=True)
class Versions:
    """The files of a family: a base, a version with one changed matrix, a retrained one, and two branches to merge."""

    base: Path
    one: Path
    full: Path
    ours: Path
    theirs: Path
    nbytes: int

    @classmethod
    def make(cls, folder: Path, family: Family) -> Versions:
        """Write the files."""
        folder.mkdir()
        paths = {name: folder / f"{name}.safetensors" for name in ("base", "one", "full", "ours", "theirs")}
        matrices = [name for name, shape in family.shapes.items() if len(shape) > 1 and "embed" not in name]
        changes = {
            "base": {},
            "one": {matrices[0]: 1},
            "full": dict.fromkeys(family.shapes, 2),
            "ours": {matrices[1]: 3},
            "theirs": {matrices[2]: 4},
        }
        sizes = [write(path, family, changes[name]) for name, path in paths.items()]
        return cls(**paths, nbytes=sizes[0])


def measure(family: Family, tools: list[Tool], jobs: set[str], repetitions: int, folder: Path) -> Samples:
    """Run the jobs. Every repetition starts from empty repositories."""
    versions = Versions.make(folder / "versions", family)
    samples = Samples(raw_bytes=versions.nbytes)
    env = environment(folder / "home")
    for _ in range(repetitions):
        samples.add("first add", "cp+sha256", floor(versions.base, folder / "copy"))
        for tool in tools:
            repository = Repository(folder / "repository", tool, env)
            _one_tool(repository, versions, jobs, samples)
            shutil.rmtree(repository.path)
        if THETA in tools and "add" in jobs:
            repository = Repository(folder / "repository", THETA, env)
            repository.put(versions.base)
            samples.add("git theta add", THETA.name, repository.timed("theta", "add", MODEL))
            shutil.rmtree(repository.path)
    shutil.rmtree(folder / "versions")
    return samples


def _one_tool(repository: Repository, versions: Versions, jobs: set[str], samples: Samples) -> None:
    name = repository.tool.name
    repository.put(versions.base)
    samples.add("first add", name, repository.timed("add", "--all"))
    repository.git("commit", "--quiet", "--message", "base")
    repository.git("tag", "base")
    samples.add("stored", name, repository.stored())
    if "add" in jobs:
        repository.put(versions.one)
        samples.add("add, one tensor changed", name, repository.timed("add", "--all"))
        repository.git("reset", "--quiet", "--hard")
    if "status" in jobs:
        repository.git("status")
        repository.age()
        samples.add("status after touch", name, repository.timed("status"))
    if "checkout" in jobs:
        _checkout(repository, versions, samples)
    if "merge" in jobs and repository.tool is THETA:
        _merge(repository, versions, samples)


def _checkout(repository: Repository, versions: Versions, samples: Samples) -> None:
    name = repository.tool.name
    base = repository.sha256()
    repository.put(versions.full)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "full")
    samples.add("checkout of another version", name, repository.timed("checkout", "--quiet", "base"))
    if repository.sha256() != base:
        raise RuntimeError(f"{name} did not bring the same file back")
    samples.add("first status after checkout", name, repository.timed("status"))
    repository.git("checkout", "--quiet", "main")
    samples.add("cleans in first status after checkout", name, repository.cleans("status"))


def _merge(repository: Repository, versions: Versions, samples: Samples) -> None:
    for branch, version in (("ours", versions.ours), ("theirs", versions.theirs)):
        repository.git("checkout", "--quiet", "-b", branch, "base")
        repository.put(version)
        repository.git("commit", "--quiet", "--all", "--message", branch)
    repository.git("checkout", "--quiet", "ours")
    tree = repository.timed("merge-tree", "--write-tree", "ours", "theirs")
    samples.add("merge of different tensors (decide)", repository.tool.name, tree)
    whole = repository.timed("merge", "--quiet", "--no-edit", "theirs")
    samples.add("merge of different tensors (with file)", repository.tool.name, whole)
