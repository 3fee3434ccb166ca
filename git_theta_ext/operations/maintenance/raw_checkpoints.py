"""Checkpoints that git stores itself, because they were added without git theta or no pattern tracks them."""

from __future__ import annotations

import posixpath
import tempfile
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import human_bytes
from git_theta_ext.git.attributes import paths_without_filter, theta_paths
from git_theta_ext.git.blobs import BlobReader
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.presets import PRESETS
from git_theta_ext.git.temporary_index import temporary_index
from git_theta_ext.registry import detect_format
from git_theta_ext.store.maintenance.fsck import Problem
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.objects import ObjectInfo
    from git_theta_ext.git.repository import Repository

RAW = "git stores the file itself; git theta add it and commit"

_SMALLEST = 1 << 20
"""Bytes; smaller files may be test data, and do no harm in git."""
_NAMES = frozenset(
    pattern
    for preset in PRESETS.values()
    for pattern in preset.patterns
    if pattern.startswith("*.") and "/" not in pattern
)


def check_raw(repo: Repository, rev: str | None) -> list[Problem]:
    """Report the checkpoints of a commit, or of the index, that git stores itself. Needs no tensor and no remote.

    These are the tracked files that are not manifests (kind ``raw``), and files of 1 MiB or more that no pattern tracks
    but that have the name and the content of a checkpoint (kind ``untracked``). Files with another filter, such as that
    of Git LFS, and those with ``-filter`` in ``.gitattributes`` are left out. Attributes are those of the commit or of
    the index.

    Args:
        repo: The repository.
        rev: The commit; None for the index.

    Raises:
        RepositoryError: There is no such commit, or git cannot read it.
    """
    files = {entry.path: entry.oid for entry in repo.entries(rev) if entry.regular and not entry.stage}
    infos = object_infos(repo, files.values())
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    others = [path for path, oid in files.items() if oid in infos and oid not in manifests and infos[oid].nbytes]
    named = [path for path in others if _may_be_checkpoint(path) and infos[files[path]].nbytes >= _SMALLEST]
    with ExitStack() as stack:
        run = repo.run if rev is None else stack.enter_context(temporary_index(repo, rev))
        raw = theta_paths(run, others, cached=True)
        candidates = paths_without_filter(run, named, cached=True)
    label = f"{rev or ''}:"
    problems = [Problem("raw", label + path, RAW) for path in raw]
    formats = _formats(repo, {files[path] for path in candidates})
    return problems + [
        Problem("untracked", label + path, _untracked(repo, path, name, infos[files[path]]))
        for path in candidates
        if (name := formats[files[path]]) != "opaque"
    ]


def _may_be_checkpoint(path: str) -> bool:
    name = posixpath.basename(path)
    return any(fnmatchcase(name, pattern) for pattern in _NAMES)


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


def _untracked(repo: Repository, path: str, name: str, info: ObjectInfo) -> str:
    command = f"{repo.git_at_top} theta track {quote(path)} && git theta add {repo.argument(path)}"
    return f"no pattern tracks this {name} file of {human_bytes(info.nbytes)}; {command}"
