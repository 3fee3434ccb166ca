"""Choose the bundles that tensors are read from. Work on packs is about bundles then, of which there are far fewer."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.packs.format import Entry

    Parts = Mapping[Digest, Sequence[tuple[Digest, int]]]
    """The bundles that tensors are in, and the position of each tensor in them."""

FEWEST = 16
"""Number of small tensors of an element type, stored together, from which on they are bundled. Fewer are as fast on
their own, and each of them may become a delta of another kind."""


class Members(NamedTuple):
    """The bundles that tensors are in.

    Attributes:
        alone: The tensors that are in one bundle, by bundle: most of them.
        several: The bundles of each tensor that is in more.
    """

    alone: Mapping[Digest, Collection[Digest]]
    several: Mapping[Digest, Sequence[Digest]]

    @classmethod
    def of(cls, parts: Parts) -> Members:
        """Return the bundles that tensors are in, given with the position of each tensor in them."""
        alone: dict[Digest, list[Digest]] = defaultdict(list)
        several = {digest: [bundle for bundle, _ in held] for digest, held in parts.items() if len(held) > 1}
        for digest, held in parts.items():
            if len(held) == 1:
                alone[held[0][0]].append(digest)
        return cls(alone, several)

    def __bool__(self) -> bool:
        """Return whether any tensor is in a bundle."""
        return bool(self.alone or self.several)


def chosen_bundles(
    members: Members, readable: Callable[[set[Digest]], Mapping[Digest, Location]], first: Container[Digest] = ()
) -> dict[Digest, Digest]:
    """Return the bundle that each tensor is read from; of several, the one with most of the tensors.

    Of several with as many of them, it is the one that takes the fewest bytes: others have more that is not needed.

    Args:
        members: The tensors. Those for which no bundle can be read are left out of the result.
        readable: Returns the location of each of some bundles that can be read.
        first: Bundles that come before all others.
    """
    counts = Counter({bundle: len(digests) for bundle, digests in members.alone.items()})
    counts.update(chain.from_iterable(members.several.values()))
    there = readable(set(counts))
    shared = {bundle for several in members.several.values() for bundle in several if bundle in first}
    order = {
        # A bundle without bytes of its own comes last, since others that are needed have its tensors.
        bundle: (bundle not in shared, -count, not at.stored, at.stored, bundle)
        for bundle, count in counts.items()
        if (at := there.get(bundle)) is not None
    }
    chosen: dict[Digest, Digest] = {}
    for bundle, digests in members.alone.items():
        if bundle in order:
            chosen.update(dict.fromkeys(digests, bundle))
    for digest, several in members.several.items():
        if usable := [bundle for bundle in several if bundle in order]:
            chosen[digest] = min(usable, key=order.__getitem__)
    return chosen


def with_others(bundles: dict[Digest, Digest], digests: set[Digest]) -> dict[Digest, Digest]:
    """Return the bundles that some of the tensors are read from, and for each other tensor itself."""
    if len(bundles) == len(digests):  # as for most models of small tensors
        return bundles
    return bundles | {digest: digest for digest in digests.difference(bundles)}


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
