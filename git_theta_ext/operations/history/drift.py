"""How far the parameters of a model moved from one commit on, version by version."""

from __future__ import annotations

import math
from posixpath import dirname
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.commit_log import read_log
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.model.shards import model_name
from git_theta_ext.operations.history.numbers import measure_versions, only
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace

    Files = Mapping[str, str]
    """Path to object id of each file of a version."""


@dataclass(frozen=True)
class Drift:
    """How far parameters moved.

    Attributes:
        origin: Id of the commit whose values are the first ones.
        commits: The commits whose versions were measured, oldest first.
        start: Name to the norm of the first value, for each parameter that moved.
        moved: Name to the norm of the difference from the first value, one for each commit. It is None if the version
            does not have the parameter with that shape, or if a value is not available.
        left_out: Number of other commits that changed the model.
        notes: What to say besides.
    """

    origin: str
    commits: tuple[Commit, ...]
    start: Mapping[str, float]
    moved: Mapping[str, tuple[float | None, ...]]
    left_out: int
    notes: tuple[str, ...]

    def relative(self, names: Sequence[str]) -> list[float | None]:
        """Return how far some parameters moved together, over the norm of their first values, for each commit."""
        start = math.hypot(*(self.start[name] for name in names))
        series: list[float | None] = []
        for number in range(len(self.commits)):
            norms = [norm for name in names if (norm := self.moved[name][number]) is not None]
            series.append(None if not norms else math.hypot(*norms) / start if start else math.hypot(*norms) * math.inf)
        return series


def measure_drift(
    workspace: Workspace, ends: tuple[str, str], files: Files, most: int, chosen: Callable[[str], bool] | None
) -> Drift:
    """Measure how far the parameters of a model moved.

    Args:
        workspace: The repository and its store.
        ends: The commit to start from, and a descendant. Of merges, only the first parent is followed.
        files: Path to object id of each file of the model in the descendant.
        most: The most versions to measure; of more, some that are spread evenly.
        chosen: Returns whether a parameter counts, by its name; None for all.

    Raises:
        UsageError: The model did not change between the commits, or is not in the first one.
        ManifestError: A manifest is broken.
    """
    versions = list(_versions(workspace, ends, files))[::-1]
    first = versions[0][1] if versions else files
    if not versions or not first:
        what = "is not there yet in" if versions else "does not change after"
        raise UsageError(f"the model {what} {ends[0][:12]}", hint="git theta log shows the commits that change it")
    picked = [versions[number] for number in _spread(len(versions), most)]
    manifests = read_manifests(workspace.repo, {oid: path for _, _, new in picked for path, oid in new.items()})
    manifests |= read_manifests(workspace.repo, {oid: path for path, oid in first.items()})

    def version(state: Files) -> dict[str, Manifest]:
        return {path: _chosen(manifests[oid], chosen) for path, oid in state.items() if oid in manifests}

    path, before = model_name(min(files)), version(first)
    changes = [measure_versions(workspace, path, before, version(new)) for _, _, new in picked]
    start = {
        name: distance.norm_old
        for change in changes
        for name, distance in change.distances.items()
        if distance.norm_old is not None
    }
    moved = {name: tuple(_norm(change, name) for change in changes) for name in start}
    commits = tuple(commit for commit, _, _ in picked)
    notes = dict.fromkeys(note for change in changes for note in change.notes)
    return Drift(ends[0], commits, start, moved, len(versions) - len(picked), tuple(notes))


def _versions(workspace: Workspace, ends: tuple[str, str], files: Files) -> Iterator[tuple[Commit, Files, Files]]:
    """Yield commits that change the model, newest first, with the version before each and its own."""
    paths = {path for path in files if model_name(path) == path}
    folders = {dirname(path) for path in files.keys() - paths}
    specs = [f":(top,literal){path}" for path in sorted(paths)]
    specs += [f":(top,literal){folder}" if folder else ":(top)" for folder in sorted(folders)]
    models = set(map(model_name, files))
    words = ("--first-parent", "--diff-merges=first-parent", "--no-renames", f"{ends[0]}..{ends[1]}", "--", *specs)
    state = dict(files)
    for commit in read_log(workspace.repo, words):
        changed = {file.path: file.old[0] for file in commit.files if model_name(file.path) in models}
        if changed:
            before = {path: oid for path, oid in {**state, **changed}.items() if oid}
            yield commit, before, state
            state = before


def _spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` numbers from 0 to ``count - 1``, the last one among these."""
    return [count - 1 - number * count // min(count, most) for number in range(min(count, most))][::-1]


def _chosen(manifest: Manifest, chosen: Callable[[str], bool] | None) -> Manifest:
    return manifest if chosen is None else only(manifest, [*filter(chosen, manifest.parameters)])


def _norm(change: ModelChange, name: str) -> float | None:
    distance = change.distances.get(name)
    if distance is not None:
        return distance.norm
    absent = name in change.diff.modified or name in change.diff.removed
    return None if absent else 0.0
