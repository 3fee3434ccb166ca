"""Read the manifests that a history names, many at a time and bounded in memory."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.git.objects import manifest_blobs, object_infos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_theta_ext.git.objects import ObjectInfo
    from git_theta_ext.git.repository import Repository

Item = TypeVar("Item")

_FIRST, _MOST = 32, 1024
_MOST_BYTES = 1 << 26


def with_manifests(
    repo: Repository, items: Iterable[Item], oids: Callable[[Item], Iterable[str]]
) -> Iterator[tuple[Item, Mapping[str, bytes]]]:
    """Yield items with the text of the manifests that they name.

    Few items are read ahead at first, so that a caller who wants few gets these soon.

    Args:
        repo: The repository.
        items: What names blobs, such as commits.
        oids: Returns the object ids that an item names. Those of other blobs than manifests are left out.
    """
    remaining = iter(items)
    number = _FIRST
    texts: dict[str, bytes] = {}
    while window := list(islice(remaining, number)):
        number = _MOST
        infos = object_infos(repo, dict.fromkeys(oid for item in window for oid in oids(item)))
        for part in _parts(window, oids, infos):
            wanted = dict.fromkeys(oid for item in part for oid in oids(item) if oid in infos)
            texts = {oid: texts[oid] for oid in wanted if oid in texts}
            unread = {oid: infos[oid] for oid in wanted if oid not in texts}
            # Git reads the next manifests while the caller looks at these.
            blobs = manifest_blobs(repo, dict(unread))
            for item in part:
                for oid in oids(item):
                    while oid in unread:
                        _read_next(blobs, unread, texts)
                yield item, texts


def _read_next(blobs: Iterator[tuple[str, bytes]], unread: dict[str, ObjectInfo], texts: dict[str, bytes]) -> None:
    """Read the next manifest; blobs that precede it in ``unread`` are none."""
    found = next(blobs, None)
    if found is None:
        unread.clear()
        return
    oid, texts[oid] = found
    for skipped in list(unread):
        del unread[skipped]
        if skipped == oid:
            return


def _parts(
    items: Iterable[Item], oids: Callable[[Item], Iterable[str]], infos: Mapping[str, ObjectInfo]
) -> Iterator[list[Item]]:
    """Divide items so that what each part reads fits in memory."""
    part: list[Item] = []
    nbytes = 0
    for item in items:
        needed = sum(infos[oid].nbytes for oid in oids(item) if oid in infos)
        if part and nbytes + needed > _MOST_BYTES:
            yield part
            part, nbytes = [], 0
        part.append(item)
        nbytes += needed
    yield part
