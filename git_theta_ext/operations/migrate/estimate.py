"""Estimate how many bytes versions of a model would take in a store, by storing some of them in a temporary one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.operations.history.versions import Version
from git_theta_ext.operations.maintenance.delta_candidates import candidates
from git_theta_ext.operations.migrate.conversion import clean_version
from git_theta_ext.records import dataclass
from git_theta_ext.store.maintenance.recode import Recoder
from git_theta_ext.util.file_bytes import FileBytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from git_theta_ext.operations.migrate.conversion import VersionReader
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class Ratio:
    """What some versions take in a store.

    Attributes:
        first: Stored bytes for each byte of the first version of a file.
        later: The same for versions that replace another.
        nbytes: Size of the versions that were tried.
    """

    first: float
    later: float
    nbytes: int

    def of(self, first: int, later: int) -> int:
        """Return the stored bytes of versions of these sizes in total."""
        return round(self.first * first + self.later * later)


def measure(
    store: Store,
    reader: VersionReader,
    files: Iterable[tuple[str, str]],
    depth: int,
    advance: Callable[[int], None],
) -> Ratio:
    """Store versions, and find out in which encodings ``git theta gc`` would keep them.

    Args:
        store: An empty store.
        reader: Opens the versions.
        files: Blob and path of each version, oldest first.
        depth: The longest chain of deltas.
        advance: Called with the number of bytes done since the last call.

    Raises:
        CorruptError: An object of Git LFS is damaged.
        StoreError: The store cannot be written.
        RepositoryError: Git cannot read a blob.
    """
    history: list[Version] = []
    newest: dict[str, str] = {}
    sizes = {True: 0, False: 0}
    for oid, path in files:
        with reader.open(oid, path) as file:
            content = FileBytes(file.fileno(), path)
            manifest = clean_version(store, content, lambda _: None, advance)
        previous = (newest[path],) if path in newest else ()
        history.append(Version(oid, path, None, 0, manifest, previous))
        sizes[not previous] += content.nbytes
        newest[path] = oid
    first, later = _stored(store, history, depth)
    ratio = first / max(1, sizes[True])
    return Ratio(ratio, later / sizes[False] if sizes[False] else ratio, sum(sizes.values()))


def _stored(store: Store, history: list[Version], depth: int) -> tuple[int, int]:
    """Return the stored bytes of first and of later versions; a tensor counts for the version that brought it."""
    stored = store.stored_as(digest for version in history for digest, _ in version.manifest.digests())
    recoder = Recoder(store, depth, dry_run=True, stored=stored)
    recoder.run(candidates(history, recoder.wanted(stored.keys())))
    locations = store.all_locations()
    totals = {True: 0, False: 0}
    seen = set()
    for version in history:
        for digest in dict.fromkeys(stored[digest] for digest, _ in version.manifest.digests()):
            if digest not in seen and digest in locations:
                seen.add(digest)
                planned = recoder.planned.get(digest)
                now = min(location.stored for location in locations[digest])
                totals[not version.previous] += now if planned is None else planned.stored
    return totals[True], totals[False]
