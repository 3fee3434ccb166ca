"""Checkpoints that git stores itself, because they were added without git theta or no pattern tracks them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import human_bytes
from git_theta_ext.git.attributes import paths_without_filter, theta_paths
from git_theta_ext.git.blobs import BlobReader
from git_theta_ext.git.commit_attributes import by_attributes
from git_theta_ext.git.commit_log import read_log
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.presets import pattern_of
from git_theta_ext.git.revisions import objects_of
from git_theta_ext.records import dataclass
from git_theta_ext.registry import detect_format
from git_theta_ext.store.maintenance.fsck import Problem
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.git.process import RunGit
    from git_theta_ext.git.repository import Repository

_STORED = "git stores the file itself"
RAW = f"{_STORED}; git theta add it and commit"

_SMALLEST = 1 << 20
"""Bytes; smaller files may be test data, and do no harm in git."""


@dataclass(frozen=True)
class _File:
    """A file of a version.

    Attributes:
        rev: The commit; None for the index.
        path: Path relative to the top.
        oid: Its blob.
        label: What users call it: ``HEAD:PATH``.
        historical: Whether another version than the one at hand has it, so that adding the file again does not help.
    """

    rev: str | None
    path: str
    oid: str
    label: str
    historical: bool = False


@dataclass(frozen=True)
class RawReport:
    """What a check found.

    Attributes:
        problems: One for each file.
        command: Takes the files out of the commits, if some are in commits that a new one does not mend; else empty.
    """

    problems: list[Problem]
    command: str


def check_raw(repo: Repository, revs: Sequence[str]) -> RawReport:
    """Report the checkpoints of commits, or of the index, that git stores itself. Needs no tensor and no remote.

    These are the tracked files that are not manifests (kind ``raw``), and files of 1 MiB or more that no pattern tracks
    but that have the name and the content of a checkpoint (kind ``untracked``). Files with another filter, such as that
    of Git LFS, and those with ``-filter`` in ``.gitattributes`` are left out. Attributes are those of the commit or of
    the index.

    Args:
        repo: The repository.
        revs: Commits, of which every file is checked, and ranges such as ``A..B``, of which the files are that each
            commit adds or changes, also if a later one deletes them. The index if empty. A file that several have is
            reported for the first of them.

    Raises:
        RepositoryError: There is no such commit, or git cannot read it.
    """
    files: dict[tuple[str, str], _File] = {}
    for rev in revs or (None,):
        for file in _present(repo, rev) if rev is None or not objects_of(repo, [rev])[1:] else _changed(repo, rev):
            files.setdefault((file.path, file.oid), file)
    groups: dict[str | None, list[_File]] = {}
    for file in files.values():
        groups.setdefault(file.rev, []).append(file)
    problems = _problems(repo, repo.run, groups.pop(None, []))
    paths = {rev: [file.path for file in those] for rev, those in groups.items() if rev is not None}
    for found in by_attributes(
        repo, paths, lambda run, same: _problems(repo, run, [file for rev in same for file in groups[rev]])
    ):
        problems |= found
    historical = [file.path for file in problems if file.historical]
    return RawReport(list(problems.values()), import_command(historical) if historical else "")


def import_command(paths: Iterable[str]) -> str:
    """Return the command that takes files out of the commits of a branch, which can be done only once."""
    return " ".join(["git theta migrate import", *(shell_word(f"--include={path}") for path in dict.fromkeys(paths))])


def raw_blobs(repo: Repository, oids: Iterable[str]) -> set[str]:
    """Return the blobs of tracked files that are the files themselves: neither manifests nor empty."""
    infos = object_infos(repo, oids)
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    return {oid for oid, info in infos.items() if info.nbytes and oid not in manifests}


def _present(repo: Repository, rev: str | None) -> Iterator[_File]:
    for entry in repo.entries(rev):
        if entry.regular and not entry.stage:
            yield _File(rev, entry.path, entry.oid, f"{rev or ''}:{shown_path(entry.path)}")


def _changed(repo: Repository, revs: str) -> Iterator[_File]:
    for commit in read_log(repo, ("--reverse", "--no-renames", revs, "--")):
        for file in commit.files:
            if file.new:
                yield _File(
                    commit.oid, file.path, file.new, f"{commit.oid[:12]}:{shown_path(file.path)}", historical=True
                )


def _problems(repo: Repository, run: RunGit, files: Sequence[_File]) -> dict[_File, Problem]:
    """Check files that have attributes in the index with which ``run`` runs git."""
    tracked = theta_paths(run, dict.fromkeys(file.path for file in files), cached=True)
    raw = raw_blobs(repo, {file.oid for file in files if file.path in tracked})
    problems = {
        file: Problem("raw", file.label, _STORED if file.historical else RAW)
        for file in files
        if file.path in tracked and file.oid in raw
    }
    named = [file for file in files if file.path not in tracked and pattern_of(file.path) is not None]
    infos = object_infos(repo, {file.oid for file in named})
    named = [file for file in named if file.oid in infos and infos[file.oid].nbytes >= _SMALLEST]
    free = set(paths_without_filter(run, dict.fromkeys(file.path for file in named), cached=True))
    named = [file for file in named if file.path in free]
    formats = _formats(repo, {file.oid for file in named})
    return problems | {
        file: Problem("untracked", file.label, _untracked(repo, file, name, infos[file.oid].nbytes))
        for file in named
        if (name := formats[file.oid]) != "opaque"
    }


def _formats(repo: Repository, oids: Iterable[str]) -> Mapping[str, str]:
    """Return the names of the formats of blobs, which are copied to a file one after the other."""
    formats = {}
    with tempfile.TemporaryDirectory(prefix="git-theta-") as folder, BlobReader(repo) as reader:
        for oid in oids:
            path = Path(folder) / oid
            with path.open("wb") as file:
                reader.copy(oid, file)
            formats[oid] = detect_format(open_bytes(path)).name
            path.unlink()
    return formats


def _untracked(repo: Repository, file: _File, name: str, nbytes: int) -> str:
    what = f"no pattern tracks this {name} file of {human_bytes(nbytes)}"
    path = shell_word(file.path)
    command = f"{repo.git_at_top} theta track {path} && git theta add {repo.argument(file.path)}"
    return what if file.historical else f"{what}; {command}"
