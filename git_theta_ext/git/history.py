"""Which parameters a push needs, found by walking the pushed commits."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError, UsageError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.git.objects import ObjectInfo
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest


@dataclass(frozen=True)
class RefUpdate:
    """One line of what git tells a pre-push hook; an object id of zeros stands for none."""

    local_ref: str
    local_oid: str
    remote_ref: str
    remote_oid: str


@dataclass(frozen=True)
class Outgoing:
    """What a push would send.

    Attributes:
        digests: Of all tensors and skeletons that the new manifests name.
        manifests: Number of new manifests.
        raw: Paths that should hold a manifest (``filter=theta``) and hold a file as it is; its size in bytes.
        conflicted: Paths whose manifest a merge left undecided.
    """

    digests: frozenset[Digest]
    manifests: int
    raw: Mapping[str, int]
    conflicted: tuple[str, ...]


def parse_updates(text: str) -> list[RefUpdate]:
    """Read what git writes to a pre-push hook.

    Raises:
        UsageError: A line has not four words.
    """
    updates = []
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) != 4:  # noqa: PLR2004 - githooks(5)
            raise UsageError(
                f"not a line that git gives to a pre-push hook: {line[:200]!r}", hint="let git push call it"
            )
        updates.append(RefUpdate(*words))
    return updates


def outgoing(repo: Repository, remote: str, updates: Sequence[RefUpdate]) -> Outgoing:
    """Find out what the pushed commits need that commits on the remote do not.

    Args:
        repo: The repository.
        remote: Name of the git remote, or its address where it has no name.
        updates: The refs that are pushed.

    Raises:
        ManifestError: A pushed manifest is broken; the message names its path or its object id.
        RepositoryError: Git cannot walk the history.
    """
    tips = list(dict.fromkeys(update.local_oid for update in updates if update.local_oid.strip("0")))
    if not tips:
        return Outgoing(frozenset(), 0, {}, ())
    infos = object_infos(repo, _new_objects(repo, remote, tips, [update.remote_oid for update in updates]))
    blobs = {oid: info for oid, info in infos.items() if info.kind == "blob"}
    paths, trees = _paths(repo, tips, blobs)
    digests: set[Digest] = set()
    conflicted = []
    manifests = set()
    for oid, data in manifest_blobs(repo, blobs):
        place = next(iter(paths.get(oid, ())), f"object {oid}")
        manifest = _parse(data, place)
        manifests.add(oid)
        digests.update(digest for digest, _ in manifest.digests())
        if manifest.conflicted:
            conflicted.append(place)
    raw = _raw(repo, trees, {oid: info for oid, info in blobs.items() if oid not in manifests and info.nbytes})
    return Outgoing(frozenset(digests), len(manifests), raw, tuple(sorted(conflicted)))


def theta_paths_at(repo: Repository, rev: str, paths: Iterable[str]) -> list[str]:
    """Return those of some paths that have ``filter=theta`` by the attributes that a commit itself holds.

    Works in bare repositories too. Attributes of the work tree do not count, those of ``info/attributes`` do.

    Raises:
        RepositoryError: There is no such commit.
    """
    wanted = "".join(f"{path}\0" for path in paths)
    if not wanted:
        return []
    with tempfile.TemporaryDirectory(prefix="git-theta-") as folder:
        # `check-attr --source` exists from git 2.40 on; an index of its own does the same in all versions.
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        repo.run("read-tree", rev, env=env)
        data = wanted.encode(errors="surrogateescape")
        reply = repo.run("check-attr", "--cached", "-z", "--stdin", "filter", input=data, env=env)
    words = reply.decode(errors="surrogateescape").split("\0")[:-1]
    return [path for path, value in zip(words[::3], words[2::3], strict=True) if value == "theta"]


def _new_objects(repo: Repository, remote: str, tips: Sequence[str], remote_oids: Sequence[str]) -> list[str]:
    known = object_infos(repo, (oid for oid in remote_oids if oid.strip("0")))
    revs = "".join([*(f"{oid}\n" for oid in tips), *(f"^{oid}\n" for oid in known)])
    args = ["rev-list", "--objects", "--no-object-names", "--stdin"]
    if remote in repo.config.git_remotes:
        args += ["--not", f"--remotes={remote}"]
    return repo.run(*args, input=revs.encode()).decode().split()


def _paths(
    repo: Repository, tips: Sequence[str], blobs: Mapping[str, ObjectInfo]
) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """Return object id to paths, and for each tip path to object id, of the new files in the pushed tips."""
    paths: dict[str, list[str]] = {}
    trees: dict[str, dict[str, str]] = {}
    if not blobs:
        return paths, trees
    kinds = repo.run("cat-file", "--batch-check=%(objecttype)", input="".join(f"{tip}^{{}}\n" for tip in tips).encode())
    for tip, kind in zip(tips, kinds.decode().splitlines(), strict=True):
        if kind not in ("commit", "tree"):
            continue
        trees[tip] = {e.path: e.oid for e in repo.entries(tip) if e.regular and e.oid in blobs}
        for path, oid in trees[tip].items():
            paths.setdefault(oid, []).append(path)
    return paths, trees


def _raw(repo: Repository, trees: Mapping[str, Mapping[str, str]], others: Mapping[str, ObjectInfo]) -> dict[str, int]:
    raw: dict[str, int] = {}
    for tip, files in trees.items():
        suspects = [path for path, oid in files.items() if oid in others and path not in raw]
        raw.update({path: others[files[path]].nbytes for path in theta_paths_at(repo, tip, suspects)})
    return raw


def _parse(data: bytes, place: str) -> Manifest:
    try:
        return Manifest.parse(data)
    except ManifestError as error:
        raise ManifestError(f"{place}: {error.message}", hint=error.hint) from error
