"""Find the last commit of each parameter of a model, through renames of parameters and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.comparison.renames import find_renames
from git_theta_ext.git.commit_log import read_log
from git_theta_ext.git.entries import tree_entry
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.model.manifest_lines import ManifestLines, changed_lines, name_and_bytes, name_of
from git_theta_ext.operations.history.manifests import with_manifests
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.manifest_lines import ChangedLines

    Origin = tuple[str, str]
    """Path and name of a parameter in the version that is asked about."""
    Wanted = dict[str, dict[bytes, Origin]]
    """Path to line of each parameter whose commit is not found yet."""

_FEW = 16


@dataclass(frozen=True, slots=True)
class LastChange:
    """The last change of a parameter.

    Attributes:
        commit: The commit that gave it its value.
        path: The file that had it there.
        name: The name that it had there.
    """

    commit: Commit
    path: str
    name: str


def last_changes(repo: Repository, rev: str, manifests: Mapping[str, Manifest]) -> dict[Origin, LastChange]:
    """Return the last change of each parameter of some files.

    A parameter has been renamed if it has the value of one whose name is gone, in a file of the model or in a file that
    the same commit deletes. Of a merge, only values that no parent has are its own.

    Args:
        repo: The repository.
        rev: The commit whose versions are asked about.
        manifests: Path to the parameters of each file that are asked about.

    Returns:
        Path and name in those versions to the last change.

    Raises:
        ManifestError: A manifest is broken.
        RepositoryError: There is no such commit.
    """
    wanted: Wanted = {
        path: {line: (path, name_of(line)) for line in ManifestLines.of(manifest.to_bytes()).parameters}
        for path, manifest in manifests.items()
    }
    found: dict[Origin, LastChange] = {}
    walks = [(rev, wanted)]
    while walks:
        start, wanted = walks.pop()
        walk = _Walk(repo, found)
        if wanted:
            walk.run(start, wanted)
        walks += walk.further
    return found


@dataclass
class _Walk:
    """A walk through the history of some files.

    Attributes:
        repo: The repository.
        found: What is found is added to it.
        further: Commits and files from which another walk goes on, because files were renamed.
    """

    repo: Repository
    found: dict[Origin, LastChange]
    further: list[tuple[str, Wanted]] = field(default_factory=list)
    _wanted: dict[str, Wanted] = field(default_factory=dict)

    def run(self, start: str, wanted: Wanted) -> None:
        """Look in ``start`` and its ancestors."""
        specs = [f":(top,literal){path}" for path in wanted]
        words = ("--topo-order", "--parents", "--no-renames", start, "--", *specs)
        newest: Wanted | None = wanted
        for commit, texts in with_manifests(self.repo, read_log(self.repo, words), _oids):
            here = newest if newest is not None else self._wanted.pop(commit.oid, None)
            newest = None
            if here:
                self._visit(commit, here, texts)
            if not self._wanted:
                return

    def _visit(self, commit: Commit, here: Wanted, texts: Mapping[str, bytes]) -> None:
        """Hand on to the parents what they have already; the rest is of this commit."""
        changes: list[_Changes] = [{file.path: (file.old[0], file.new) for file in commit.files}]
        if len(commit.parents) > 1:
            changes = [self._changes(parent, commit.oid, here) for parent in commit.parents]
            oids = {oid for change in changes for pair in change.values() for oid in pair if oid}
            texts = {**texts, **dict(manifest_blobs(self.repo, object_infos(self.repo, oids)))}
        for number, (parent, change) in enumerate(zip(commit.parents, changes, strict=False)):
            passed: Wanted = {}
            compared = {} if _all_there(here, change, texts) else _compared(change, texts)
            for path, lines in here.items():
                own = [line for line in compared[path].new if line in lines] if path in compared else []
                passed[path], here[path] = lines, {line: lines.pop(line) for line in own}
            if number == 0:
                _take_renamed(here, _gone(compared), passed)
            wanted = self._wanted.setdefault(parent, {})
            for path, lines in passed.items():
                wanted[path] = {**wanted[path], **lines} if path in wanted else lines
            if not any(wanted.values()):
                del self._wanted[parent]
        if any(here.values()) and any(not old for old, _ in changes[0].values()):
            self._follow(commit, here)
        for path, lines in here.items():
            self.found.update((origin, LastChange(commit, path, name_of(line))) for line, origin in lines.items())

    def _changes(self, parent: str, oid: str, paths: Iterable[str]) -> _Changes:
        """Return the object ids of the files that differ between two commits."""
        old, new = ({path: e.oid for path, e in _listed(self.repo, rev, paths).items()} for rev in (parent, oid))
        return {path: (old.get(path, ""), new.get(path, "")) for path in paths if old.get(path) != new.get(path)}

    def _follow(self, commit: Commit, here: Wanted) -> None:
        """Look for values in files that the commit deletes, from which another walk goes on."""
        parents = self.repo.run("rev-list", "--parents", "-n1", commit.oid).decode().split()[1:]
        if not parents:
            return
        words = ("diff-tree", "-r", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=D")
        fields = os.fsdecode(self.repo.run(*words, parents[0], commit.oid)).split("\0")[:-1]
        deleted = {header.split(" ")[2]: path for header, path in zip(fields[::2], fields[1::2], strict=True)}
        texts = manifest_blobs(self.repo, object_infos(self.repo, deleted))
        gone = [(deleted[oid], line) for oid, text in texts for line in ManifestLines.of(text).parameters]
        passed: Wanted = {}
        _take_renamed(here, gone, passed)
        if passed:
            self.further.append((parents[0], passed))


_Changes = dict[str, tuple[str, str]]
"""Path to the object ids before and after; empty if the file is not there."""


def _oids(commit: Commit) -> list[str]:
    return [oid for file in commit.files for oid in (file.new, *file.old) if oid]


def _listed(repo: Repository, rev: str, paths: Iterable[str]) -> dict[str, TreeEntry]:
    text = os.fsdecode(repo.run("ls-tree", "-z", "--full-tree", rev, *paths))
    return {entry.path: entry for entry in map(tree_entry, text.split("\0")[:-1])}


def _all_there(here: Wanted, change: _Changes, texts: Mapping[str, bytes]) -> bool:
    """Return whether the older versions have all parameters, if these are so few that this is quick to see."""
    return sum(map(len, here.values())) <= _FEW and all(
        b"\n%s\n" % line in texts.get(change[path][0], b"")
        for path, lines in here.items()
        if path in change
        for line in lines
    )


def _compared(change: _Changes, texts: Mapping[str, bytes]) -> dict[str, ChangedLines]:
    return {path: changed_lines(*_versions(pair, texts)) for path, pair in change.items()}


def _versions(pair: tuple[str, str], texts: Mapping[str, bytes]) -> tuple[ManifestLines | None, list[ManifestLines]]:
    old, new = (ManifestLines.of(texts[oid]) if oid in texts else None for oid in pair)
    return new, [] if old is None else [old]


def _gone(compared: Mapping[str, ChangedLines]) -> list[tuple[str, bytes]]:
    """Return path and line of each parameter whose name is gone from its file."""
    gone = []
    for path, changed in compared.items():
        if not changed.aligned:
            names = set(map(name_of, changed.new))
            gone += [(path, line) for line in changed.old if name_of(line) not in names]
    return gone


def _take_renamed(here: Wanted, gone: Sequence[tuple[str, bytes]], passed: Wanted) -> None:
    """Move what has a value that is gone to the file and the name that had it."""
    former, current = _by_value(gone), _by_value((path, line) for path, lines in here.items() for line in lines)
    for value in filter(former.__contains__, current):
        moved = {name: name for name in current[value] if name in former[value]}
        left = [
            dict.fromkeys((n for n in names[value] if n not in moved), (value, value[1])) for names in (former, current)
        ]
        for name, was in (moved | find_renames(*left)).items():
            # Several files may have the same value by the same name.
            for (path, line), (source, whose) in zip(current[value][name], former[value][was], strict=False):
                passed.setdefault(source, {})[whose] = here[path].pop(line)


def _by_value(lines: Iterable[tuple[str, bytes]]) -> dict[tuple[bytes, int], dict[str, list[tuple[str, bytes]]]]:
    """Return path and line of parameters by digest and size in bytes, and by name."""
    found: dict[tuple[bytes, int], dict[str, list[tuple[str, bytes]]]] = {}
    for path, line in lines:
        columns, _, digest = line.rpartition(b"\t")
        name, nbytes = name_and_bytes(columns)
        found.setdefault((digest, nbytes), {}).setdefault(name, []).append((path, line))
    return found
