"""Choose the bundles that tensors are read from. Work on packs is about bundles then, of which there are far fewer."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.packs.format import Entry

    Parts = Mapping[Digest, Sequence[tuple[Digest, int]]]
    """The bundles that tensors are in, and the position of each tensor in them."""

FEWEST = 16
"""Number of small tensors of an element type, stored together, from which on they are bundled. Fewer are as fast on
their own, and each of them may become a delta of another kind."""


def chosen_bundles(
    parts: Parts, readable: Callable[[set[Digest]], Mapping[Digest, Location]], first: Container[Digest] = ()
) -> dict[Digest, Digest]:
    """Return the bundle that each tensor is read from; of several, the one with most of the tensors.

    Of several with as many of them, it is the one that takes the fewest bytes: others have more that is not needed.

    Args:
        parts: The tensors. Those for which no bundle can be read are left out of the result.
        readable: Returns the location of each of some bundles that can be read.
        first: Bundles that come before all others.
    """
    chosen = {digest: several[0][0] for digest, several in parts.items() if len(several) == 1}  # as for most
    counts = Counter(chosen.values())
    rest = [(digest, several) for digest, several in parts.items() if len(several) != 1]
    counts.update(bundle for _, several in rest for bundle, _ in several)
    there = readable(set(counts))
    shared = {bundle for _, several in rest for bundle, _ in several if bundle in first}
    order = {
        # A bundle without bytes of its own comes last, since others that are needed have its tensors.
        bundle: (bundle not in shared, -count, not at.stored, at.stored, bundle)
        for bundle, count in counts.items()
        if (at := there.get(bundle)) is not None
    }
    if len(order) < len(counts):
        chosen = {digest: bundle for digest, bundle in chosen.items() if bundle in order}
    for digest, several in rest:
        if usable := [bundle for bundle, _ in several if bundle in order]:
            chosen[digest] = min(usable, key=order.__getitem__)
    return chosen


def parts_behind(entries: Sequence[Entry]) -> dict[Digest, list[tuple[Digest, int]]]:
    """Return in which bundles tensors are that entries depend on, and that have no entry of their own among these."""
    bases = {base for entry in entries for base in entry.bases} - {entry.digest for entry in entries}
    parts = parts_in(entries) if bases else {}
    return {digest: parts[digest] for digest in bases & parts.keys()}


def parts_in(entries: Iterable[Entry]) -> dict[Digest, list[tuple[Digest, int]]]:
    """Return which bundles have tensors, and where, for the bundles among some entries of packs."""
    parts: dict[Digest, list[tuple[Digest, int]]] = defaultdict(list)
    for entry in entries:
        for start, _, digest in entry.bundle.members() if entry.bundle is not None else ():
            if (entry.digest, start) not in parts[digest]:
                parts[digest].append((entry.digest, start))
    return parts
