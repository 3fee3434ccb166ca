"""Say what a migration would save, by kind of file."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from git_theta_ext.git.blobs import BlobReader
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.operations.migrate.conversion import VersionReader, classify
from git_theta_ext.operations.migrate.estimate import measure
from git_theta_ext.operations.migrate.lfs_storage import LfsStorage
from git_theta_ext.operations.migrate.listing import list_files
from git_theta_ext.operations.migrate.patterns import path_matcher
from git_theta_ext.operations.migrate.refs import chosen_refs, tips_of
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.folders import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.attributes import Tracked
    from git_theta_ext.operations.migrate.conversion import Sources
    from git_theta_ext.operations.migrate.run import Scope
    from git_theta_ext.operations.workspace import Workspace

_SAMPLE = 1 << 26
"""Bytes of the versions that are tried for an estimate."""
_LEAST = 2
_SMALLEST = 100_000
"""Bytes; files that are never larger are no models, unless a pattern names them."""


@dataclass
class Share:
    """The files whose names have one ending.

    Attributes:
        pattern: A pattern that matches them.
        files: Number of paths.
        versions: Number of different versions.
        nbytes: Size of all versions, in bytes.
        now: Bytes that they take in git and in Git LFS.
        missing: Number of versions in Git LFS that are not on this machine.
        after: Bytes that they would take, estimated; None if no version is on this machine.
        sampled: Size of the versions that the estimate is made from, in bytes.
    """

    pattern: str
    files: int = 0
    versions: int = 0
    nbytes: int = 0
    now: int = 0
    missing: int = 0
    after: int | None = None
    sampled: int = 0
    oids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list), repr=False)
    """Path to its blobs, oldest first."""


def migration_info(workspace: Workspace, scope: Scope, tracked: Tracked, *, complete: bool = False) -> list[Share]:
    """Return what history holds, the most bytes first.

    Args:
        workspace: The repository. Nothing is written to its store.
        scope: Which history to look at.
        tracked: The paths to look at; all paths if there are no patterns to include.
        complete: Whether to estimate from all versions instead of a sample.

    Raises:
        RepositoryError: Git cannot read the history.
        UsageError: A pattern or a ref is not valid.
    """
    repo = workspace.repo
    tips = tips_of(repo, chosen_refs(repo, scope.names, everything=scope.everything))
    include = tracked.include or ["*"]
    with (
        path_matcher(repo, include, tracked.exclude) as matches,
        workspace.reporter.progress("reading commits", counted=True) as advance,
    ):
        files = list_files(repo, tips, matches, advance).files
    storage = LfsStorage.of(repo)
    migrated = {oid for oid, _ in manifest_blobs(repo, object_infos(repo, files))}
    sources = classify(repo, [oid for oid in files if oid not in migrated], storage)
    shares = _shares(
        {oid: path for oid, path in files.items() if oid not in migrated}, sources, _disk_sizes(repo, files)
    )
    if not tracked.include:
        shares = [
            one for one in shares if any(sources.size(o) >= _SMALLEST for oids in one.oids.values() for o in oids)
        ]
    samples = {share.pattern: list(_sample(share, sources, complete=complete)) for share in shares}
    total = sum(sources.size(oid) for sample in samples.values() for oid, _ in sample)
    with ExitStack() as stack:
        advance = stack.enter_context(workspace.reporter.progress("estimating", total))
        blobs = stack.enter_context(BlobReader(repo))
        folder = stack.enter_context(temporary_folder(repo.common_dir))
        reader = VersionReader(sources, storage, blobs, folder)
        for number, share in enumerate(shares):
            if sample := samples[share.pattern]:
                with closing(workspace.temporary_store(folder / str(number))) as store:
                    ratio = measure(store, reader, sample, workspace.settings.chain_depth, advance)
                first = sum(sources.size(oids[0]) for oids in share.oids.values())
                share.after, share.sampled = ratio.of(first, share.nbytes - first), ratio.nbytes
    return shares


def _shares(files: Mapping[str, bytes], sources: Sources, disk: Mapping[str, int]) -> list[Share]:
    shares: dict[str, Share] = {}
    for oid, path in files.items():
        shown = path.decode("utf-8", "surrogateescape")
        name = shown.rpartition("/")[2]
        stem, dot, ending = name.rpartition(".")
        pattern = f"*.{ending}" if stem and dot else name
        share = shares.setdefault(pattern, Share(pattern))
        share.oids[shown].append(oid)
        share.versions += 1
        share.nbytes += sources.size(oid)
        share.missing += oid in sources.missing
        in_lfs = sources.size(oid) if oid in sources.pointers and oid not in sources.missing else 0
        share.now += disk.get(oid, 0) + in_lfs
    for share in shares.values():
        share.files = len(share.oids)
    return sorted(shares.values(), key=lambda share: -share.nbytes)


def _disk_sizes(repo: Repository, oids: Mapping[str, bytes]) -> dict[str, int]:
    """Return the bytes that objects take in git's database, where most are differences."""
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    format_ = "--batch-check=%(objectname) %(objectsize:disk)"
    lines = repo.run("cat-file", "--buffer", format_, input=asked).decode().splitlines()
    return {oid: int(nbytes) for oid, nbytes in (line.split(" ") for line in lines) if nbytes != "missing"}


def _sample(share: Share, sources: Sources, *, complete: bool) -> Iterator[tuple[str, str]]:
    """Yield the blobs and the paths from which to estimate: of all files, or of the one with the most bytes."""
    ordered = sorted(share.oids, key=lambda path: -sum(map(sources.size, share.oids[path])))
    nbytes = count = 0
    for path in ordered if complete else ordered[:1]:
        for oid in share.oids[path]:
            if oid in sources.missing:
                continue
            if not complete and nbytes + sources.size(oid) > _SAMPLE and count >= _LEAST:
                return
            nbytes, count = nbytes + sources.size(oid), count + 1
            yield oid, path
