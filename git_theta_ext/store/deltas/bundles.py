"""Keep the bundles that were decoded last: their tensors are read one after another."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.packs.reader import StoredBlob

_ROOM = 1 << 24
"""Bytes of the bundles that are kept: those of a few versions, for each of several threads."""


class _Slot:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.lock = threading.Lock()
        self.data: memoryview | None = None


class DecodedBundles:
    """The bundles that were decoded last. Safe to use from several threads, of which one decodes a bundle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._nbytes = 0

    def get(self, key: Hashable, nbytes: int, decode: Callable[[], memoryview]) -> memoryview:
        """Return a bundle, which is decoded unless it is known.

        Args:
            key: Names the bundle and the pack that it is read from, so that no damaged one is taken for another copy.
            nbytes: Its size in bytes.
            decode: Decodes it.
        """
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(nbytes)
                self._nbytes += nbytes
            self._slots.move_to_end(key)
            while self._nbytes > _ROOM and len(self._slots) > 1:
                self._nbytes -= self._slots.popitem(last=False)[1].nbytes
        with slot.lock:
            if slot.data is None:
                slot.data = decode()
            return slot.data

    def clear(self) -> None:
        """Forget all, since a pack was damaged, and another may take its place."""
        with self._lock:
            self._slots.clear()
            self._nbytes = 0


def part_range(entry: Entry, bundle: Entry) -> tuple[int, int]:
    """Return the bytes of a bundle that are a tensor.

    Raises:
        CorruptError: They are not in the bundle.
    """
    start = entry.params.get("start")
    if not isinstance(start, int) or start < 0 or start + entry.spec.nbytes > bundle.spec.nbytes:
        raise CorruptError(f"{entry.digest} is not a part of bundle {bundle.digest}")
    return start, start + entry.spec.nbytes


def sources(entry: Entry, blobs: Mapping[Digest, StoredBlob]) -> list[tuple[int, int, Digest, int]]:
    """Return where the tensors of a gathered bundle are.

    Returns:
        The first byte and the byte after the last one in the bundle, the base that has the tensor, and its first byte
        there.

    Raises:
        CorruptError: No base has one of the tensors.
    """
    places: dict[Digest, tuple[Digest, int]] = {}
    for base in entry.bases:
        blob = blobs.get(base)
        if blob is None:
            raise CorruptError(f"base {base} is not one that the index lists")
        if blob.entry.bundle is None:
            places[base] = base, 0
        else:
            places.update((digest, (base, start)) for start, _, digest in blob.entry.bundle.members())
    found = []
    for start, spec, digest in entry.bundle.members() if entry.bundle else ():
        if digest not in places:
            raise CorruptError(f"no base of bundle {entry.digest} has {digest}")
        found.append((start, start + spec.nbytes, *places[digest]))
    return found
