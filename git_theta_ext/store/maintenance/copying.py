"""Make blobs of stored tensors: copies of their entries, or without bases."""

from __future__ import annotations

from functools import partial
from secrets import token_bytes
from typing import TYPE_CHECKING

from git_theta_ext.model.tensor import skeleton_spec, tensor_digest
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.encode import MemorySource
from git_theta_ext.store.locations import in_pack
from git_theta_ext.store.packs.blobs import NewBlob, dense_blob
from git_theta_ext.store.packs.checked import checked_blob
from git_theta_ext.store.packs.reader import wrong_tensor
from git_theta_ext.store.packs.writer import divided

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.store import Store


def copies(store: Store, locations: Iterable[Location]) -> list[list[NewBlob]]:
    """Return copies of entries as blobs, distributed over packs in the given order."""
    return divided([(_copy(store, location), location.stored) for location in locations])


def renamed(store: Store, names: Iterable[str]) -> set[str]:
    """Copy packs to packs with other names, since nothing else may have theirs.

    A random entry that nothing refers to makes the bytes differ.

    Raises:
        CorruptError: A pack is damaged.
        StoreError: The store cannot be written.
    """
    packs = []
    for name in sorted(names):
        entries = store.reader.header(store.path_of(name)).entries
        held = [_copy(store, location) for _, location in in_pack(str(store.root), name, entries)]
        packs.append([*held, _random_blob()])
    return set(store.write(packs, loose=False))


def whole_again(store: Store, digest: Digest) -> NewBlob:
    """Return a blob of a stored tensor that has no base. Writing it fails if the tensor is damaged.

    Raises:
        MissingError: The tensor cannot be decoded from this store.
    """
    blobs = store.blobs({digest})
    path, entry = blobs[digest]
    wrong = partial(wrong_tensor, path.name, digest)
    return checked_blob(digest, lambda: StoredSource(store.decoder, blobs, digest), wrong, entry.bundle)


def _random_blob() -> NewBlob:
    data = token_bytes(32)
    spec = skeleton_spec(len(data))
    return dense_blob(tensor_digest(spec, data), lambda: MemorySource(spec, data))


def _copy(store: Store, location: Location) -> NewBlob:
    path = store.path_of(location.pack)
    entry = store.reader.header(path).entries[location.entry]

    def encode(number: int) -> list[Buffer]:
        return [store.reader.chunk(path, entry, number)]

    return NewBlob(entry.digest, entry.spec, encode, entry.encoding, entry.bases, entry.params, bundle=entry.bundle)
