"""Which of several packs a tensor is read from, when one may hold it whole and another as a difference.

A digest may be held more than once, and an entry may lean on others. Entries that lean on each other in a circle can
come together from two remotes, each of them sound by itself; what is chosen here is free of circles.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from git_theta_ext.model.tensor import Digest

MAX_CHAIN = 16
"""The most bases one behind another that are followed; recoding keeps chains much shorter."""


class Verdict(IntEnum):
    """What decoding an entry of a pack has shown; the numbers are those of the index."""

    UNKNOWN = 0
    SOUND = 1
    BAD = 2


@dataclass(frozen=True, slots=True)
class Holder:
    """An entry of a pack that says to hold a digest.

    Attributes:
        root: Of the store.
        pack: Name.
        entry: Number in the pack.
        stored: Its size there in bytes.
        bases: What it leans on.
        verdict: Whether it was seen to decode to the digest, given the tensors that its bases name.
    """

    root: str
    pack: str
    entry: int
    stored: int
    bases: tuple[Digest, ...] = ()
    verdict: Verdict = Verdict.UNKNOWN


Holders = dict["Digest", "tuple[Holder, ...]"]


def only(holders: Mapping[Digest, Iterable[Holder]], *verdicts: Verdict) -> Holders:
    """Return the holders of some verdicts, leaving out what has none."""
    found = {digest: tuple(h for h in held if h.verdict in verdicts) for digest, held in holders.items()}
    return {digest: held for digest, held in found.items() if held}


def usable(holders: Mapping[Digest, Iterable[Holder]]) -> Holders:
    """Return the holders that are not known to be bad."""
    return only(holders, Verdict.UNKNOWN, Verdict.SOUND)


def sound(holders: Mapping[Digest, Iterable[Holder]]) -> Holders:
    """Return the holders that were verified."""
    return only(holders, Verdict.SOUND)


def closure(digests: Iterable[Digest], look_up: Callable[[set[Digest]], Holders]) -> Holders:
    """Return all holders of some digests and of everything that these lean on.

    Args:
        digests: Those asked for.
        look_up: Returns the holders of digests, leaving out what nobody holds.
    """
    found: Holders = {}
    seen: set[Digest] = set()
    todo = set(digests)
    while todo:
        seen |= todo
        fresh = look_up(todo)
        found.update(fresh)
        todo = {base for held in fresh.values() for holder in held for base in holder.bases} - seen
    return found


def shallowest(holders: Mapping[Digest, Iterable[Holder]]) -> dict[Digest, Holder]:
    """Choose for each digest the holder that is decoded in the fewest steps, the smallest among these.

    Digests that cannot be decoded at all, since a base is missing or leans on them, are left out.
    """
    chosen: dict[Digest, Holder] = {}
    waiting = dict(holders)
    for _ in range(MAX_CHAIN + 1):
        level: dict[Digest, Holder] = {}
        for digest, held in waiting.items():
            ready = [holder for holder in held if all(base in chosen for base in holder.bases)]
            if ready:
                level[digest] = min(ready, key=lambda holder: (holder.stored, holder.pack))
        if not level:
            break
        chosen.update(level)
        for digest in level:
            del waiting[digest]
    return chosen


def smallest(holders: Mapping[Digest, Iterable[Holder]], depth: int = MAX_CHAIN) -> dict[Digest, Holder]:
    """Choose for each digest the holder that takes the fewest bytes, as far as that makes no circle.

    All together take no more bytes than by ``shallowest``. Digests that cannot be decoded at all are left out likewise.

    Args:
        holders: Of each digest, with those of all that they lean on.
        depth: Holders with more bases than that, one behind another, are chosen only where there are no others.
    """
    plain = shallowest(holders)
    ordered = {
        digest: sorted(
            (holder for holder in holders[digest] if all(base in plain for base in holder.bases)),
            key=lambda holder: (holder.stored, len(holder.bases), holder.pack),
        )
        for digest in plain
    }
    chosen: dict[Digest, Holder] = {}
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
    holders: Holders, choose: Callable[[Holders], dict[Digest, Holder]] = shallowest
) -> dict[Digest, Holder]:
    """Choose among verified holders, and among the others only for what these cannot be decoded from.

    Verified holders lean on nothing but verified ones here, so no circle arises where the two choices meet.

    Args:
        holders: Of each digest, with those of all that they lean on; none that is known to be bad.
        choose: Chooses without circles.
    """
    verified = sound(holders)
    if sum(map(len, verified.values())) == sum(map(len, holders.values())):
        return choose(verified)
    return {**choose(holders), **choose(verified)}


def _bytes(chosen: Mapping[Digest, Holder]) -> int:
    return sum(holder.stored for holder in chosen.values())


def _settle(
    start: Digest,
    ordered: Mapping[Digest, list[Holder]],
    chosen: dict[Digest, Holder],
    steps: dict[Digest, int],
    limit: int,
) -> None:
    """Choose for a digest, and before it for what its smallest holders lean on."""
    path = [(start, iter(ordered[start]))] if start not in chosen else []
    begun = {start}
    waiting: dict[Digest, Holder] = {}
    while path:
        digest, rest = path[-1]
        holder = waiting.pop(digest, None) or next(rest, None)
        if holder is None:  # all lean on what is just being settled; perhaps later
            path.pop()
            continue
        unsettled = [base for base in holder.bases if base not in chosen]
        if not unsettled:
            depth = 1 + max(steps[base] for base in holder.bases) if holder.bases else 0
            if depth <= limit:
                chosen[digest], steps[digest] = holder, depth
                path.pop()
        elif unsettled[0] not in begun:
            waiting[digest] = holder
            begun.add(unsettled[0])
            path.append((unsettled[0], iter(ordered[unsettled[0]])))


def ancestors(digests: Iterable[Digest], chosen: Mapping[Digest, Holder]) -> set[Digest]:
    """Return some digests and all that they lean on."""
    seen: set[Digest] = set()
    todo = set(digests)
    while todo:
        seen |= todo
        todo = {base for digest in todo if digest in chosen for base in chosen[digest].bases} - seen
    return seen


def depths(chosen: Mapping[Digest, Holder]) -> dict[Digest, int]:
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
