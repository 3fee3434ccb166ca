"""Choose the bundles that tensors are read from. Work on packs is about bundles then, of which there are far fewer."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import compress
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.packs.format import Entry

    BundlesOf = Mapping[Digest, tuple[Digest, ...]]
    """The bundles that each of some tensors is in, which may be none. Tensors in the same bundles mostly have the same
    object, so that what is done for each group of them takes few steps."""

FEWEST = 16
"""Number of small tensors of an element type, stored together, from which on they are bundled. Fewer are as fast on
their own, and each of them may become a delta of another kind."""


def chosen_bundles(
    bundles: BundlesOf, readable: Callable[[set[Digest]], Mapping[Digest, Location]], first: Container[Digest] = ()
) -> dict[tuple[Digest, ...], Digest]:
    """Return the bundle that tensors are read from; of several, the one with most of the tensors.

    Of several with as many of them, it is the one that takes the fewest bytes: others have more that is not needed.

    Args:
        bundles: The bundles of each tensor.
        readable: Returns the location of each of some bundles that can be read.
        first: Bundles that come before all others.

    Returns:
        The bundle for each of the values of ``bundles``. Those of which no bundle can be read are left out.
    """
    groups = Counter(bundles.values())
    counts: Counter[Digest] = Counter()
    for group, count in groups.items():
        counts.update(dict.fromkeys(group, count))
    there = readable(set(counts)) if counts else {}
    shared = {bundle for group in groups if len(group) > 1 for bundle in group if bundle in first}
    order = {
        # A bundle without bytes of its own comes last, since others that are needed have its tensors.
        bundle: (bundle not in shared, -count, not at.stored, at.stored, bundle)
        for bundle, count in counts.items()
        if (at := there.get(bundle)) is not None
    }
    usable = {group: [bundle for bundle in group if bundle in order] for group in groups}
    return {group: min(several, key=order.__getitem__) for group, several in usable.items() if several}


def stored_as(bundles: BundlesOf, chosen: Mapping[tuple[Digest, ...], Digest]) -> dict[Digest, Digest]:
    """Return the bundle that each tensor is read from, or the tensor itself if it is in none that can be read.

    Args:
        bundles: The bundles of each tensor.
        chosen: As ``chosen_bundles`` returns it for these.
    """
    found = dict(zip(bundles, map(chosen.get, bundles.values()), strict=True))
    found.update([(digest, digest) for digest in apart(bundles, chosen)])
    return cast("dict[Digest, Digest]", found)


def apart(bundles: BundlesOf, chosen: Container[tuple[Digest, ...]]) -> list[Digest]:
    """Return the tensors that are in no bundle which can be read.

    Args:
        bundles: The bundles of each tensor.
        chosen: Those of its values of which a bundle can be read.
    """
    others = {group for group in set(bundles.values()) if group not in chosen}
    return [*compress(bundles, map(others.__contains__, bundles.values()))] if others else []


def parts_behind(entries: Sequence[Entry]) -> dict[Digest, list[tuple[Digest, int]]]:
    """Return in which bundles tensors are that entries depend on, and that have no entry of their own among these."""
    bases = {base for entry in entries for base in entry.bases} - {entry.digest for entry in entries}
    parts = parts_in(entries) if bases else {}
    return {digest: parts[digest] for digest in bases & parts.keys()}


def parts_in(entries: Iterable[Entry]) -> dict[Digest, list[tuple[Digest, int]]]:
    """Return which bundles have tensors, and where, for the bundles among some entries of packs."""
    parts: dict[Digest, list[tuple[Digest, int]]] = defaultdict(list)
    for entry in entries:
        if entry.bundle is None:
            continue
        for start, digest in zip(entry.bundle.starts(), entry.bundle.digests(), strict=True):
            if (entry.digest, start) not in parts[digest]:
                parts[digest].append((entry.digest, start))
    return parts
