"""Read the manifests that a history names, many at a time and bounded in memory."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.util.threads import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_theta_ext.git.objects import ObjectInfo
    from git_theta_ext.git.repository import Repository

Item = TypeVar("Item")

_FIRST, _MOST = 32, 1024
_MOST_BYTES = 1 << 26
_USUAL = 1 << 22
"""Bytes of most manifests. Memory that is used again is faster than new pages for each."""


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
    remaining = ((item, tuple(oids(item))) for item in items)
    number = _FIRST
    keep_freed_memory(_USUAL)
    while window := list(islice(remaining, number)):
        number = _MOST
        infos = object_infos(repo, dict.fromkeys(oid for _, named in window for oid in named))
        for part in _parts(window, infos):
            uses = Counter(oid for _, named in part for oid in named if oid in infos)
            texts: dict[str, bytes] = {}
            unread = {oid: infos[oid] for oid in uses}
            # Git reads the next manifests while the caller looks at these.
            blobs = manifest_blobs(repo, dict(unread))
            for item, named in part:
                for oid in named:
                    while oid in unread:
                        _read_next(blobs, unread, texts)
                yield item, texts
                uses.subtract(named)
                for oid in named:
                    if uses[oid] <= 0:
                        texts.pop(oid, None)


def _read_next(blobs: Iterator[tuple[str, bytes]], unread: dict[str, ObjectInfo], texts: dict[str, bytes]) -> None:
    """Read the next manifest; blobs that precede it in ``unread`` are none."""
    found = next(blobs, None)
    if found is None:
        unread.clear()
        return
    oid, texts[oid] = found
    skipped = ""
    while skipped != oid:
        skipped = next(iter(unread))
        del unread[skipped]


def _parts(
    window: Iterable[tuple[Item, tuple[str, ...]]], infos: Mapping[str, ObjectInfo]
) -> Iterator[list[tuple[Item, tuple[str, ...]]]]:
    """Divide items so that what each part reads fits in memory."""
    part: list[tuple[Item, tuple[str, ...]]] = []
    nbytes = 0
    for item, named in window:
        needed = sum(infos[oid].nbytes for oid in named if oid in infos)
        if part and nbytes + needed > _MOST_BYTES:
            yield part
            part, nbytes = [], 0
        part.append((item, named))
        nbytes += needed
    yield part
