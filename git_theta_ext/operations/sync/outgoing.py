"""Find the parameters that a push needs by walking the pushed commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.commit_attributes import by_attributes, theta_paths_at
from git_theta_ext.git.commit_log import read_log
from git_theta_ext.git.objects import local_blobs, manifest_blobs, object_infos
from git_theta_ext.git.partial import is_partial
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.tensor import Digest
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.objects import ObjectInfo
    from git_theta_ext.git.process import RunGit
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.transfer.remote_index import HeldDigests

_HARMLESS = 100_000
"""Bytes of a file that earlier commits may keep: nobody rewrites commits for less, and text is mostly smaller."""
_REFS = 1000
"""Refs whose commits git lists at once: its command has a limited length."""


@dataclass(frozen=True)
class RefUpdate:
    """One line of the input of git's pre-push hook; an object id of zeros means that there is no object."""

    local_ref: str
    local_oid: str
    remote_ref: str
    remote_oid: str


_KEPT = 1 << 16
"""Number of parameters in the manifests that are kept, or counted together. Each takes a few hundred bytes."""


@dataclass(frozen=True)
class Outgoing:
    """The parameters that a push needs.

    Attributes:
        sizes: Size in bytes of all tensors and skeletons that manifests of the pushed history name, by digest.
        manifests: Number of these manifests. Manifests are not counted if the remote is known to have all they name.
        raw: Size in bytes of each file that git sends as it is although its path has ``filter=theta``, by path.
        conflicted: Paths of the manifests with merge conflicts that git sends.
        skeletons: The skeletons that these manifests name; all other digests are of tensors.
        replaced: As ``raw``, of large files that the last commits have no more, by ``COMMIT:PATH``. Commits that a
            remote has are left out: these cannot be mended.
        read: Manifests that were read, by object id: the first ones, which recoding needs not read again.
    """

    sizes: Mapping[Digest, int]
    manifests: int
    raw: Mapping[str, int]
    conflicted: tuple[str, ...]
    skeletons: AbstractSet[Digest] = frozenset()
    replaced: Mapping[str, int] = field(default_factory=dict)
    read: Mapping[str, Manifest] = field(default_factory=dict, repr=False)

    @property
    def digests(self) -> AbstractSet[Digest]:
        """The tensors and skeletons."""
        return self.sizes.keys()

    def nbytes(self, digests: AbstractSet[Digest]) -> int:
        """Return the size in bytes of some of the tensors and skeletons, as they are in checkpoints."""
        if len(digests) == len(self.sizes):  # as in a first push
            return sum(self.sizes.values())
        return sum(map(self.sizes.__getitem__, digests))


def parse_updates(text: str) -> list[RefUpdate]:
    """Read the input of git's pre-push hook.

    Raises:
        UsageError: A line does not consist of four words.
    """
    updates = []
    for line in filter(None, text.split("\n")):
        words = line.split(" ")
        if len(words) != 4:  # noqa: PLR2004 - githooks(5)
            raise UsageError(
                f"unexpected line in the input of the pre-push hook: {line[:200]!r}", hint="let git push call it"
            )
        updates.append(RefUpdate(*words))
    return updates


def outgoing(
    repo: Repository,
    remote: str,
    updates: Sequence[RefUpdate],
    complete: Iterable[str] = (),
    there: HeldDigests | None = None,
) -> Outgoing:
    """Find the parameters that the history of pushed commits needs, and the faults of the commits that git sends.

    That a remote has a commit does not mean that it has the commit's parameters: the commit may have been pushed
    without them, or they may have been deleted.

    Args:
        repo: The repository.
        remote: Name of the git remote, or its address if it has no name.
        updates: The refs that are pushed.
        complete: Commits for whose history the remote has all parameters.
        there: What is known to be on the remote; manifests that name nothing else are not counted.

    Raises:
        ManifestError: A manifest that git sends is broken; the message names its path or its object id.
        RepositoryError: Git cannot walk the history.
    """
    tips = tips_of(updates)
    if not tips:
        return Outgoing({}, 0, {}, ())
    infos = object_infos(repo, reachable(repo, tips, complete))
    blobs = {oid: info for oid, info in infos.items() if info.kind == "blob"}
    paths, trees = _paths(repo, tips, blobs)
    manifests: set[str] = set()
    sizes: dict[Digest, int] = {}
    skeletons: set[Digest] = set()
    lacking = _Lacking(there)
    broken: dict[str, ManifestError] = {}
    conflicted = {}
    read: dict[str, Manifest] = {}
    kept = _KEPT
    for oid, data in manifest_blobs(repo, blobs):
        label = next(iter(paths.get(oid, ())), f"object {oid}")
        try:
            manifest = _parse(data, label)
        except ManifestError as error:
            broken[oid] = error
            continue
        manifests.add(oid)
        sizes.update(manifest.digests())
        named = manifest.named
        lacking.add(named)
        kept -= len(named)
        if kept >= 0:
            read[oid] = manifest
        skeletons.add(manifest.skeleton.digest)
        if manifest.conflicted:
            conflicted[oid] = label
    others = {oid: info for oid, info in blobs.items() if oid not in manifests and oid not in broken and info.nbytes}
    raw = _raw(repo, trees, others)
    if broken or conflicted or raw:
        sent = set(reachable(repo, tips, [update.remote_oid for update in updates], remote))
        if bad := sent & set(broken):
            raise broken[min(bad)]
        conflicted = {oid: label for oid, label in conflicted.items() if oid in sent}
        raw = {path: oid for path, oid in raw.items() if oid in sent}
    last = {oid for files in trees.values() for oid in files.values()}
    large = {oid for oid, info in others.items() if info.nbytes >= _HARMLESS and oid not in last}
    replaced = _replaced(repo, updates, large)
    return Outgoing(
        sizes,
        lacking.count(),
        {path: blobs[oid].nbytes for path, oid in raw.items()},
        tuple(sorted(conflicted.values())),
        skeletons,
        {where: blobs[oid].nbytes for where, oid in replaced.items()},
        read,
    )


class _Lacking:
    """Counts the manifests that name what a remote lacks, without keeping what each of a long history names.

    Args:
        there: What is known to be on the remote.
    """

    def __init__(self, there: HeldDigests | None) -> None:
        self._there = there
        self._waiting: list[Sequence[Digest]] = []
        self._room = _KEPT
        self._seen: set[Digest] = set()
        self._absent: set[Digest] = set()
        self._count = 0

    def add(self, named: Sequence[Digest]) -> None:
        """Add what a manifest names."""
        if self._there is None:
            self._count += 1
            return
        self._waiting.append(named)
        self._room -= len(named)
        if self._room < 0:
            self._look_up(self._there)

    def count(self) -> int:
        """Return the number of manifests that name something which is not there."""
        if self._there is not None:
            self._look_up(self._there)
        return self._count

    def _look_up(self, there: HeldDigests) -> None:
        # Many at once: a look-up for each manifest would take longer.
        fresh = set[Digest]().union(*self._waiting) - self._seen
        self._seen |= fresh
        self._absent |= fresh - there.among(fresh)
        self._count += sum(not self._absent.isdisjoint(named) for named in self._waiting)
        self._waiting, self._room = [], _KEPT


def tips_of(updates: Sequence[RefUpdate]) -> list[str]:
    """Return the object ids that are pushed; a deleted ref has none."""
    return list(dict.fromkeys(update.local_oid for update in updates if update.local_oid.strip("0")))


def reachable(repo: Repository, tips: Sequence[str], without: Iterable[str], remote: str | None = None) -> list[str]:
    """List the objects reachable from commits, but not from some others or the remote-tracking branches of a remote.

    Excluded commits that the repository does not have are ignored. Replacements by ``git replace`` are ignored too,
    because git sends the original objects.
    """
    excluded = object_infos(repo, (oid for oid in without if oid.strip("0")))
    revs = "".join([*(f"{oid}\n" for oid in tips), *(f"^{oid}\n" for oid in excluded)])
    args = ["rev-list", "--objects", "--no-object-names", "--missing=allow-promisor", "--stdin"]
    if remote in repo.config.git_remotes:
        args += ["--not", f"--remotes={remote}"]
    oids = repo.run(*args, input=revs.encode(), env={"GIT_NO_REPLACE_OBJECTS": "1"}).decode().split()
    if is_partial(repo):
        present = set(local_blobs(repo))  # git would fetch the missing ones one by one
        oids = [oid for oid in oids if oid in present]
    return oids


def _paths(
    repo: Repository, tips: Sequence[str], blobs: Mapping[str, ObjectInfo]
) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """Return the new files in the pushed tips: paths by object id, and for each tip object ids by path."""
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


def _raw(repo: Repository, trees: Mapping[str, Mapping[str, str]], others: Mapping[str, ObjectInfo]) -> dict[str, str]:
    raw: dict[str, str] = {}
    for tip, files in trees.items():
        suspects = [path for path, oid in files.items() if oid in others and path not in raw]
        raw.update({path: files[path] for path in theta_paths_at(repo, tip, suspects)})
    return raw


def _replaced(repo: Repository, updates: Sequence[RefUpdate], others: AbstractSet[str]) -> dict[str, str]:
    """Return which files with ``filter=theta`` are some other blobs in commits that no remote has."""
    tips, files = tips_of(updates), dict[str, dict[str, str]]()
    there = object_infos(repo, {update.remote_oid for update in updates if update.remote_oid.strip("0")})
    words = ("--reverse", "--no-renames", "--not", "--remotes", *there, "--not")
    # Other repositories have none: the time would be lost.
    for first in range(0, len(tips) if others and repo.theta_dir.is_dir() else 0, _REFS):
        for commit in read_log(repo, (*words, *tips[first : first + _REFS], "--"), cwd=repo.folder):
            new = {file.path: file.new for file in commit.files if file.new in others}
            files |= {commit.oid: new} if new else {}

    def tracked_in(run: RunGit, commits: list[str]) -> dict[str, str]:
        tracked = theta_paths(run, {path for oid in commits for path in files[oid]}, cached=True)
        return {f"{oid[:12]}:{path}": new for oid in commits for path, new in files[oid].items() if path in tracked}

    return {label: new for found in by_attributes(repo, files, tracked_in) for label, new in found.items()}


def _parse(data: bytes, label: str) -> Manifest:
    try:
        return Manifest.parse(data)
    except ManifestError as error:
        raise ManifestError(f"{label}: {error.message}", hint=error.hint) from error
