"""Which of several packs a tensor is read from, when one may hold it whole and another as a difference.

A digest may be held more than once, and an entry may lean on others. Entries that lean on each other in a circle can
come together from two remotes, each of them sound by itself; what is chosen here is free of circles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.locations import flattened, sound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations

MAX_CHAIN = 16
"""The most bases one behind another that are followed; recoding keeps chains much shorter."""


def closure(digests: Iterable[Digest], look_up: Callable[[set[Digest]], Locations]) -> Locations:
    """Return all locations of some digests and of everything that these lean on.

    Args:
        digests: Those asked for.
        look_up: Returns the locations of digests, leaving out what nobody holds.
    """
    found: Locations = {}
    seen: set[Digest] = set()
    todo = set(digests)
    while todo:
        seen |= todo
        fresh = look_up(todo)
        found.update(fresh)
        todo = {base for _, location in flattened(fresh) for base in location.bases} - seen
    return found


def shallowest(locations: Mapping[Digest, Iterable[Location]]) -> dict[Digest, Location]:
    """Choose for each digest the location that is decoded in the fewest steps, the smallest among these.

    Digests that cannot be decoded at all, since a base is missing or leans on them, are left out.
    """
    chosen: dict[Digest, Location] = {}
    waiting = dict(locations)
    for _ in range(MAX_CHAIN + 1):
        level: dict[Digest, Location] = {}
        for digest, held in waiting.items():
            ready = [location for location in held if all(base in chosen for base in location.bases)]
            if ready:
                level[digest] = min(ready, key=lambda location: (location.stored, location.pack))
        if not level:
            break
        chosen.update(level)
        for digest in level:
            del waiting[digest]
    return chosen


def smallest(locations: Mapping[Digest, Iterable[Location]], depth: int = MAX_CHAIN) -> dict[Digest, Location]:
    """Choose for each digest the location that takes the fewest bytes, as far as that makes no circle.

    All together take no more bytes than by ``shallowest``. Digests that cannot be decoded at all are left out likewise.

    Args:
        locations: Of each digest, with those of all that they lean on.
        depth: Locations with more bases than that, one behind another, are chosen only where there are no others.
    """
    plain = shallowest(locations)
    ordered = {
        digest: sorted(
            (location for location in locations[digest] if all(base in plain for base in location.bases)),
            key=lambda location: (location.stored, len(location.bases), location.pack),
        )
        for digest in plain
    }
    chosen: dict[Digest, Location] = {}
    steps: dict[Digest, int] = {}
    rest = sorted(plain)
    while rest:
        for digest in rest:
            _settle(digest, ordered, chosen, steps, depth)
        left = [digest for digest in rest if digest not in chosen]
        if len(left) == len(rest):
            if depth >= MAX_CHAIN:
                return plain
            depth = MAX_CHAIN
        rest = left
    return chosen if _bytes(chosen) <= _bytes(plain) else plain


def sound_first(
    locations: Locations, choose: Callable[[Locations], dict[Digest, Location]] = shallowest
) -> dict[Digest, Location]:
    """Choose among verified locations, and among the others only for what these cannot be decoded from.

    Verified locations lean on nothing but verified ones here, so no circle arises where the two choices meet.

    Args:
        locations: Of each digest, with those of all that they lean on; none that is known to be bad.
        choose: Chooses without circles.
    """
    verified = sound(locations)
    if sum(map(len, verified.values())) == sum(map(len, locations.values())):
        return choose(verified)
    return {**choose(locations), **choose(verified)}


def _bytes(chosen: Mapping[Digest, Location]) -> int:
    return sum(location.stored for location in chosen.values())


def _settle(
    start: Digest,
    ordered: Mapping[Digest, list[Location]],
    chosen: dict[Digest, Location],
    steps: dict[Digest, int],
    limit: int,
) -> None:
    """Choose for a digest, and before it for what its smallest locations lean on."""
    path = [(start, iter(ordered[start]))] if start not in chosen else []
    begun = {start}
    waiting: dict[Digest, Location] = {}
    while path:
        digest, rest = path[-1]
        location = waiting.pop(digest, None) or next(rest, None)
        if location is None:  # all lean on what is just being settled; perhaps later
            path.pop()
            continue
        unsettled = [base for base in location.bases if base not in chosen]
        if not unsettled:
            depth = 1 + max(steps[base] for base in location.bases) if location.bases else 0
            if depth <= limit:
                chosen[digest], steps[digest] = location, depth
                path.pop()
        elif unsettled[0] not in begun:
            waiting[digest] = location
            begun.add(unsettled[0])
            path.append((unsettled[0], iter(ordered[unsettled[0]])))


def ancestors(digests: Iterable[Digest], chosen: Mapping[Digest, Location]) -> set[Digest]:
    """Return some digests and all that they lean on."""
    seen: set[Digest] = set()
    todo = set(digests)
    while todo:
        seen |= todo
        todo = {base for digest in todo if digest in chosen for base in chosen[digest].bases} - seen
    return seen


def depths(chosen: Mapping[Digest, Location]) -> dict[Digest, int]:
    """Return for each digest the number of bases one behind another; 0 for one that leans on nothing.

    Args:
        chosen: Without circles.
    """
    found: dict[Digest, int] = {}
    for start in chosen:
        path = [start]
        while path:
            digest = path[-1]
            bases = [base for base in chosen[digest].bases if base in chosen]
            rest = [base for base in bases if base not in found]
            if rest:
                path.append(rest[0])
            else:
                found[digest] = 1 + max(found[base] for base in bases) if bases else 0
                path.pop()
    return found
