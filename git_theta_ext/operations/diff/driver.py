"""Git's external diff for checkpoints (git documentation, "GIT_EXTERNAL_DIFF").

A side is given as a file and an object id. The file holds a manifest, or the checkpoint itself where git reuses a file
of the work tree; so what has an id is read by that, and only the rest from the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.checkpoint.file import CheckpointFile
from git_theta_ext.checkpoint.scan import scan
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.diff.compare import compare
from git_theta_ext.diff.distance import Distance, measure
from git_theta_ext.errors import UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.diff.compare import Diff
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_SHORT, _LONG = 7, 9


@dataclass(frozen=True)
class _Side:
    """One version of the checkpoint: what it holds, and the file that has its values if the store does not.

    Attributes:
        manifest: None if this side has no such file.
        path: Of a checkpoint; None if there is none.
        format_name: From the ``theta-format`` attribute.
        opened: The checkpoint, if it is open already.
    """

    manifest: Manifest | None
    path: Path | None = None
    format_name: str | None = None
    opened: CheckpointFile | None = None

    @cached_property
    def file(self) -> CheckpointFile | None:
        """The checkpoint, which is opened only if a value has to come from it."""
        if self.opened is not None or self.path is None:
            return self.opened
        data = open_bytes(self.path)
        if is_manifest(data) or not data.nbytes:
            return None
        return CheckpointFile(str(self.path), data, scan(data, str(self.path), self.format_name))

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        """Return a parameter's bytes from the file, ``spec.chunk_bytes`` at a time; None if it does not have them."""
        if self.file is None or self.file.specs.get(name) != parameter.spec:
            return None
        return self.file.chunks(name)


@dataclass(frozen=True)
class FileDiff:
    """How two versions of a checkpoint differ.

    Attributes:
        headline: The path, or both of a renamed file.
        diff: By parameter.
        distances: Of parameters that were modified, by name.
        notes: What to say besides.
    """

    headline: str
    diff: Diff
    distances: Mapping[str, Distance]
    notes: Sequence[str]


def diff_versions(words: Sequence[str], workspace: Workspace) -> FileDiff | None:
    """Compare two versions of a checkpoint.

    Args:
        words: As git gives them: path, old file, old id, old mode, new file, new id, new mode, and for a renamed file
            its new path and git's own headline.
        workspace: The repository and its store.

    Returns:
        None if they do not differ.

    Raises:
        UsageError: The number of words is none that git gives.
        FormatError: A version breaks its format.
        ManifestError: A version is a broken manifest.
    """
    if len(words) not in (_SHORT, _LONG):
        raise UsageError(f"{len(words)} arguments; git passes 1, 7 or 9", hint="git diff calls this command itself")
    path, old_file, old_oid, old_mode, new_file, new_oid, new_mode, *renamed = words
    new_path = renamed[0] if renamed else path
    formats = theta_paths(workspace.repo.run, [path, new_path])
    old = _side(workspace, (path, old_file, old_oid), formats.get(path))
    new = _side(workspace, (new_path, new_file, new_oid), formats.get(new_path))
    diff = compare(old.manifest, new.manifest)
    notes = [f"mode {old_mode} -> {new_mode}"] if "." not in (old_mode, new_mode) and old_mode != new_mode else []
    if diff.empty and not notes and not renamed:
        return None
    distances, missing = _measure(diff, old, new, workspace.store)
    if missing:
        values = "1 parameter is" if missing == 1 else f"{missing} parameters are"
        notes.append(
            f"the values of {values} not in this repository; git theta checkout fetches those of the current commit"
        )
    return FileDiff(f"{path} -> {new_path}" if renamed else path, diff, distances, notes)


def _side(workspace: Workspace, words: tuple[str, str, str], format_name: str | None) -> _Side:
    repo = workspace.repo
    path, name, oid = words
    if name == os.devnull:
        return _Side(None)
    file = repo.folder / name
    if oid.strip("0."):
        content = dict(manifest_blobs(repo, object_infos(repo, [oid]))).get(oid)
        if content is not None:
            own = file if repo.worktree is not None and file == repo.worktree / path else None
            return _Side(Manifest.parse(content), own, format_name)
    else:
        content = StatCache(workspace.store).get(file)
        if content is not None:
            return _Side(Manifest.parse(content), file, format_name)
    data = open_bytes(file)
    if is_manifest(data) and data.nbytes <= MAX_MANIFEST:
        return _Side(Manifest.parse(bytes(data[:])))
    described = describe(data, path, format_name)
    return _Side(described.manifest, file, format_name, CheckpointFile(path, data, described.scan))


def _measure(diff: Diff, old: _Side, new: _Side, store: Store) -> tuple[dict[str, Distance], int]:
    """Return the statistics of modified parameters, and the number of those whose values are not available."""
    if "opaque" in (diff.old_format, diff.new_format):
        return {}, 0
    same = {name: change for name, change in diff.modified.items() if change.old.spec == change.new.spec}
    absent = store.touch_and_find_missing(p.digest for change in same.values() for p in (change.old, change.new))

    def values(side: _Side, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        if parameter.digest not in absent:
            return store.stream(parameter.digest, parameter.spec)
        return side.values(name, parameter)

    distances: dict[str, Distance] = {}
    for name, change in same.items():
        before, after = values(old, name, change.old), values(new, name, change.new)
        if before is not None and after is not None:
            distances[name] = measure(before, after, change.new.spec.dtype)
    return distances, len(same) - len(distances)
