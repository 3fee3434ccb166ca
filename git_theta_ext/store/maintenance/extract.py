"""Make packs for a push: with the pushed tensors only, and without dependencies on others."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import sound
from git_theta_ext.store.maintenance.copying import copies, whole_again
from git_theta_ext.store.packs.writer import grouped

if TYPE_CHECKING:
    from collections.abc import Container
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.store import Store


def starting_within(locations: Locations, digests: AbstractSet[Digest], others: Container[Digest]) -> Locations:
    """Leave out locations of some digests whose parent is neither one of them nor one of some others.

    The bases after the parent are factors, which are part of the tensor.
    """

    def may_have(bases: tuple[Digest, ...]) -> bool:
        return not bases or bases[0] in digests or bases[0] in others or without_bytes(bases[0])

    def without_bytes(digest: Digest) -> bool:
        """Return whether a tensor is a part of bundles that the remote may have, or a bundle is made of such parts."""
        held = [at for at in locations.get(digest, ()) if at.pack and at.bases and not at.stored]
        return any(all(base in digests or base in others for base in location.bases) for location in held)

    allowed: Locations = {}
    for digest, several in locations.items():
        kept = several
        # Most tensors have one location without bases.
        if digest in digests and (len(several) != 1 or several[0].bases):
            kept = tuple([location for location in several if may_have(location.bases)])
        if kept:
            allowed[digest] = kept
    return allowed


def extract_packs(store: Store, digests: AbstractSet[Digest], there: Container[Digest]) -> set[str]:
    """Return the names of packs with some tensors and what they depend on, and nothing else.

    A tensor that shares its pack with others is copied to another pack. A delta of a tensor that is not pushed, such as
    a version on a private branch, is stored again without it: neither its bytes nor its digest leave this store.

    Args:
        store: The store that has the tensors.
        digests: Digests of the tensors, verified.
        there: Digests that the remote has. The pushed tensors may depend on these.

    Raises:
        MissingError: A tensor cannot be decoded from this store.
        StoreError: The store cannot be written.
    """
    chosen = smallest(starting_within(sound(store.locations(digests)), digests, there))
    rewritten = digests - set(chosen)
    names = set(store.write(grouped([whole_again(store, digest) for digest in sorted(rewritten)]), loose=True))
    ours = {digest: location for digest, location in chosen.items() if digest not in there}
    needed = ancestors(digests - rewritten, ours)
    parts: dict[str, list[Digest]] = defaultdict(list)
    for digest, location in ours.items():
        if digest in needed and location.pack:
            parts[location.pack].append(digest)
    headers = {name: store.reader.header(store.path_of(name)) for name in sorted(parts)}
    mixed = [name for name, header in headers.items() if len(header.entries) > len(parts[name])]
    extracted = [ours[digest] for name in mixed for digest in sorted(parts[name])]
    return names | set(parts) - set(mixed) | set(store.write(copies(store, extracted), loose=False))
