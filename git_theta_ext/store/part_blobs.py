"""Make the blobs of tensors that are in bundles, and have no entries of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.store.locations import Location
from git_theta_ext.store.packs.format import PART, Entry
from git_theta_ext.store.packs.reader import StoredBlob
from git_theta_ext.store.parts import parts_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs


def find_blobs(
    digests: Iterable[Digest], chosen: Mapping[Digest, Location], find: Callable[[Digest, Location], StoredBlob]
) -> dict[Digest, StoredBlob]:
    """Return the blobs of some digests.

    Args:
        digests: The digests. If a tensor is a part of a bundle, the bundle is among them.
        chosen: The location of each.
        find: Returns the blob of an entry of a pack.

    Raises:
        CorruptError: A pack disagrees with the index.
        MissingError: A pack is gone.
    """
    found: dict[Digest, StoredBlob] = {}
    parts: dict[Digest, Location] = {}
    for digest in digests:
        location = chosen[digest]
        if location.pack:
            found[digest] = find(digest, location)
        else:
            parts[digest] = location
    return found | part_blobs(parts, found) if parts else found


def part_blobs(parts: Mapping[Digest, Location], bundles: Blobs) -> dict[Digest, StoredBlob]:
    """Return the blobs of tensors in bundles, which have no bytes of their own.

    Args:
        parts: The tensors, as parts of bundles.
        bundles: The blobs of these bundles.

    Raises:
        CorruptError: A bundle has no such tensor.
    """
    members: dict[Digest, dict[int, tuple[TensorSpec, Digest]]] = {}
    blobs: dict[Digest, StoredBlob] = {}
    for digest, location in parts.items():
        (name,) = location.bases
        path, entry = bundles[name]
        if name not in members:
            of_bundle = entry.bundle.members() if entry.bundle is not None else ()
            members[name] = {start: (spec, member) for start, spec, member in of_bundle}
        spec, member = members[name].get(location.entry, (entry.spec, None))
        if member != digest:
            raise CorruptError(
                f"bundle {name} in pack {path.name} does not have {digest}", hint="git theta fsck --full"
            )
        blobs[digest] = StoredBlob(path, Entry(digest, spec, PART, (), 0, (name,), {"start": location.entry}))
    return blobs


def with_parts_of(blobs: Blobs) -> Blobs:
    """Return blobs, and those of the tensors of all bundles among them."""
    parts = parts_in(blob.entry for blob in blobs.values())
    places = {digest: Location("", "", start, 0, (name,)) for digest, ((name, start), *_) in parts.items()}
    return {**part_blobs(places, blobs), **blobs}
