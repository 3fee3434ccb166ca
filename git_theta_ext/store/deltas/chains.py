"""Choose the location that each tensor is read from: one pack may store it whole and another as a delta.

A digest can have several locations, and an entry can depend on other tensors. Entries that depend on each other in a
cycle can come together from two remotes, although each remote is sound by itself. The choices made here are free of
cycles.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.store.locations import sound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations

MAX_CHAIN = 16
"""The largest chain depth that is read: bases of bases of a tensor. Recoding keeps chains much shorter.

Between two deltas there may be a part or a gathered bundle, so that up to 33 bases follow each other.
"""

_SHARE = 4
"""Digests that are at most one in so many are looked up one by one; for more, a pass over everything is faster."""


def without_bytes(location: Location) -> bool:
    """Return whether a location is a part of a bundle, or a gathered bundle: nothing is decoded for it itself."""
    return bool(location.bases) and not location.stored


def chain_depth(location: Location, below: Mapping[Digest, int], chosen: Mapping[Digest, Location]) -> int:
    """Return the chain depth of a location.

    A part or a gathered bundle is as deep as what it is made of, unless that is one, too: no chain is without end.

    Args:
        location: The location.
        below: The chain depths of its bases. Bases without one do not count.
        chosen: The locations of its bases.
    """
    bases = [base for base in location.bases if base in below]
    if location.stored or not bases:
        return 1 + max([below[base] for base in bases], default=-1)
    return max([below[base] + without_bytes(chosen[base]) for base in bases])


def closure(digests: Iterable[Digest], look_up: Callable[[set[Digest]], Locations]) -> Locations:
    """Return all locations of some digests and of everything that these depend on.

    Args:
        digests: The digests to start from.
        look_up: Returns the locations of digests. Digests without locations are left out.
    """
    locations: Locations = {}
    seen: set[Digest] = set()
    todo = set(digests)
    while todo:
        seen |= todo
        fresh = look_up(todo)
        locations.update(fresh)
        todo = set(chain.from_iterable([at.bases for several in fresh.values() for at in several])) - seen
    return locations


def shallowest(locations: Mapping[Digest, Sequence[Location]]) -> dict[Digest, Location]:
    """Choose for each digest the location with the smallest chain depth, and of these the one with the fewest bytes.

    Digests that cannot be decoded, since a base is missing or depends on them, are left out.
    """
    # Most tensors have one location, without bases.
    chosen = {digest: held[0] for digest, held in locations.items() if len(held) == 1 and not held[0].bases}
    waiting = {digest: held for digest, held in locations.items() if digest not in chosen}
    level = _level(waiting, {})
    for _ in range(MAX_CHAIN):
        chosen |= level
        waiting = {digest: held for digest, held in waiting.items() if digest not in level}
        if made := _made_of(waiting, chosen, level):
            chosen |= made
            waiting = {digest: held for digest, held in waiting.items() if digest not in made}
        level = _level(waiting, chosen)
        if not level:
            break
    chosen |= level
    waiting = {digest: held for digest, held in waiting.items() if digest not in level}
    chosen |= _made_of(waiting, chosen, level)
    # The tensors of a bundle can be read if the bundle can.
    return chosen | _level({digest: held for digest, held in waiting.items() if not held[-1].pack}, chosen)


def _level(waiting: Mapping[Digest, Sequence[Location]], chosen: Mapping[Digest, Location]) -> dict[Digest, Location]:
    """Return a location of each digest that has one whose bases are all chosen: one with bytes, and the fewest."""
    level: dict[Digest, Location] = {}
    for digest, held in waiting.items():
        ready = [at for at in held if not at.bases or all(map(chosen.__contains__, at.bases))]
        if ready:
            level[digest] = ready[0] if len(ready) == 1 else min(ready, key=_depth_and_size)
    return level


def _made_of(
    waiting: Mapping[Digest, Sequence[Location]], chosen: Mapping[Digest, Location], level: Mapping[Digest, Location]
) -> dict[Digest, Location]:
    """Return the parts and gathered bundles that are as deep as the level that was chosen last."""
    late = {digest for digest, at in level.items() if without_bytes(at)}
    made: dict[Digest, Location] = {}
    for digest, held in waiting.items():
        ready = [
            at
            for at in held
            if without_bytes(at) and all(map(chosen.__contains__, at.bases)) and late.isdisjoint(at.bases)
        ]
        if ready:
            made[digest] = ready[0] if len(ready) == 1 else min(ready, key=_size)
    return made


def smallest(locations: Mapping[Digest, Sequence[Location]], depth: int = MAX_CHAIN) -> dict[Digest, Location]:
    """Choose for each digest the location with the fewest bytes that does not close a cycle.

    The total is at most that of ``shallowest``. Digests that cannot be decoded are left out.

    Args:
        locations: Locations of the digests and of all that they depend on.
        depth: Locations with a larger chain depth are chosen only for digests that have no others.
    """
    best = {
        digest: held[0] if len(held) == 1 else min(held, key=_preference) for digest, held in locations.items() if held
    }
    if _within(best, depth):  # as for most models
        return best
    plain = shallowest(locations)
    chosen = {
        digest: location for digest, location in plain.items() if len(locations[digest]) == 1 and not location.bases
    }
    steps = dict.fromkeys(chosen, 0)
    rest = sorted(plain.keys() - chosen.keys())
    ordered = {
        digest: sorted([at for at in locations[digest] if plain.keys() >= {*at.bases}], key=_preference)
        for digest in rest
    }
    while rest:
        for digest in rest:
            _choose(digest, ordered, chosen, steps, depth)
        left = [digest for digest in rest if digest not in chosen]
        if len(left) == len(rest):
            if depth >= MAX_CHAIN:
                return plain
            depth = MAX_CHAIN
        rest = left
    return chosen if _bytes(chosen) <= _bytes(plain) else plain


def _within(chosen: Mapping[Digest, Location], depth: int) -> bool:
    """Return whether some locations form no cycle, have all bases among them, and no larger chain depth."""
    deltas = [(digest, location.bases) for digest, location in chosen.items() if location.bases and location.stored]
    made = [(digest, location.bases) for digest, location in chosen.items() if without_bytes(location)]
    if not deltas and not made:
        return True
    below = chosen.keys() - dict(deltas).keys() - dict(made).keys()
    late: set[Digest] = set()
    for level in range(depth + 1):
        if level:
            late = {digest for digest, bases in made if below.issuperset(bases)}
            ready = [digest for digest, bases in deltas if below.issuperset(bases)]
            below.update(late, ready)
            deltas = [(digest, bases) for digest, bases in deltas if digest not in below]
        made = [(digest, bases) for digest, bases in made if digest not in late]
        below.update([digest for digest, bases in made if below.issuperset(bases) and late.isdisjoint(bases)])
        made = [(digest, bases) for digest, bases in made if digest not in below]
        if not deltas and not made:
            return True
    return False


def sound_first(
    locations: Locations, choose: Callable[[Locations], dict[Digest, Location]] = shallowest
) -> dict[Digest, Location]:
    """Choose among verified locations, and among the others only for digests that need them.

    The chosen verified locations depend only on verified ones, so combining the two choices closes no cycle.

    Args:
        locations: Locations of the digests and of all that they depend on, without those known to be bad.
        choose: Chooses locations without cycles.
    """
    verified = sound(locations)
    if sum(map(len, verified.values())) == sum(map(len, locations.values())):
        return choose(verified)
    return {**choose(locations), **choose(verified)}


def _size(location: Location) -> tuple[int, bool, str]:
    return location.stored, _is_part(location), location.pack


def _depth_and_size(location: Location) -> tuple[bool, int, bool, str]:
    """Prefer what has bytes: what is made of it is not deeper."""
    return without_bytes(location), *_size(location)


def _preference(location: Location) -> tuple[int, int, bool, str]:
    return location.stored, len(location.bases), _is_part(location), location.pack


def _is_part(location: Location) -> bool:
    """Return whether a tensor is taken out of a bundle although no entry of a pack says so; an entry comes first."""
    return bool(location.bases) and not location.pack


def _bytes(chosen: Mapping[Digest, Location]) -> int:
    return sum(location.stored for location in chosen.values())


def _choose(
    start: Digest,
    ordered: Mapping[Digest, list[Location]],
    chosen: dict[Digest, Location],
    steps: dict[Digest, int],
    limit: int,
) -> None:
    """Choose a location of a digest, after choosing those of the bases of its smallest locations."""
    if start in chosen:
        return
    best = next(iter(ordered[start]), None)
    if best is not None and chosen.keys() >= {*best.bases}:  # as for most tensors
        depth = chain_depth(best, steps, chosen)
        if depth <= limit:
            chosen[start], steps[start] = best, depth
            return
    path = [(start, iter(ordered[start]))]
    begun = {start}
    waiting: dict[Digest, Location] = {}
    while path:
        digest, rest = path[-1]
        location = waiting.pop(digest, None) or next(rest, None)
        if location is None:  # all depend on digests whose choice is in progress; perhaps later
            path.pop()
            continue
        pending = [base for base in location.bases if base not in chosen]
        if not pending:
            depth = chain_depth(location, steps, chosen)
            if depth <= limit:
                chosen[digest], steps[digest] = location, depth
                path.pop()
        elif pending[0] not in begun:
            waiting[digest] = location
            begun.add(pending[0])
            path.append((pending[0], iter(ordered[pending[0]])))


def ancestors(digests: Iterable[Digest], chosen: Mapping[Digest, Location]) -> set[Digest]:
    """Return some digests and all digests that they depend on."""
    seen: set[Digest] = set()
    todo = set(digests)
    while todo:
        seen |= todo
        if len(todo) * _SHARE < len(chosen):
            deltas = [location.bases for digest in todo if (location := chosen.get(digest)) is not None]
        else:  # in the order in which they are in memory, which takes a fraction of the time
            deltas = [location.bases for digest, location in chosen.items() if location.bases and digest in todo]
        todo = set(chain.from_iterable(deltas)) - seen
    return seen


def depths(chosen: Mapping[Digest, Location]) -> dict[Digest, int]:
    """Return the chain depth of each digest; 0 for one without bases. See ``chain_depth``.

    Args:
        chosen: The location of each digest, without cycles.
    """
    depth_of: dict[Digest, int] = {}
    for start in chosen:
        path = [start]
        while path:
            digest = path[-1]
            rest = [base for base in chosen[digest].bases if base in chosen and base not in depth_of]
            if rest:
                path.append(rest[0])
            else:
                depth_of[digest] = chain_depth(chosen[digest], depth_of, chosen)
                path.pop()
    return depth_of
