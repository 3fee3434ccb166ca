"""Decide what is stored instead of a bundle of which most is not needed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.records import dataclass
from git_theta_ext.store.locations import Location
from git_theta_ext.store.packs.format import PART, Entry
from git_theta_ext.store.parts import FEWEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest, TensorSpec

    Members = Sequence[tuple[TensorSpec, Digest]]

_SHARE = 1 / 2
"""Share of the stored bytes of a bundle above which removing what is not needed is worth storing the rest again."""

_NEGLIGIBLE = 1 << 12


@dataclass(frozen=True)
class Remains:
    """What is stored instead of a bundle.

    Attributes:
        kept: Spec and digest of each tensor that is needed.
        left: The same of those that no version needs, but that are too young to be removed.
        alone: Whether the needed tensors are few, and get entries of their own.
        ratio: Stored bytes for each byte of a tensor, about.
    """

    kept: Members
    left: Members
    alone: bool
    ratio: float

    def homes(self) -> Iterator[tuple[TensorSpec, Digest, Digest]]:
        """Yield each of the needed tensors, and what it is stored as: a bundle, or itself."""
        bundle = None if self.alone else Bundle.of(self.kept).digest
        for spec, digest in self.kept:
            yield spec, digest, bundle or digest


def remains_of(
    bundle: Bundle, held: Location, wanted: AbstractSet[Digest], *, young: bool, gathered: bool
) -> Remains | None:
    """Return what is stored instead of a bundle; None if that frees too little."""
    members = {digest: spec for _, spec, digest in bundle.members()}
    kept = [(spec, digest) for digest, spec in members.items() if digest in wanted]
    # What is stored instead of a delta has no base, and may not become smaller than its bytes.
    ratio = 1.0 if held.bases else held.stored / bundle.spec.nbytes
    gain = held.stored - ratio * sum(spec.nbytes for spec, _ in kept)
    if not kept or gain <= max(_SHARE * held.stored, _NEGLIGIBLE):
        return None
    left = [(spec, digest) for digest, spec in members.items() if young and digest not in wanted]
    return Remains(kept, left, alone=len(kept) < FEWEST and not gathered, ratio=ratio)


def made_anew(entry: Entry, remains: Mapping[Digest, Remains]) -> Entry | None:
    """Return a part or a gathered bundle as it is made of what replaces bundles; None if it is not needed any more."""
    homes = {
        base: {digest: home for _, digest, home in remains[base].homes()} for base in remains.keys() & {*entry.bases}
    }
    if entry.encoding == PART:
        (base,) = entry.bases
        home = homes[base][entry.digest]
        if home == entry.digest:
            return None
        (start,) = (start for start, _, digest in Bundle.of(remains[base].kept).members() if digest == entry.digest)
        return entry._replace(bases=(home,), params={"start": start})
    bases = dict.fromkeys(
        home for base in entry.bases for home in ({*homes[base].values()} if base in homes else (base,))
    )
    # What is left of a bundle may be what was gathered from it.
    return None if entry.digest in bases else entry._replace(bases=tuple(bases))


def planned_locations(root: str, remains: Mapping[Digest, Remains], made: Iterable[Entry]) -> dict[Digest, Location]:
    """Return the locations of what replaces bundles, and of what is made of it, in a pack without a name."""
    planned = {entry.digest: Location(root, "", 0, 0, entry.bases) for entry in made}
    sizes: dict[Digest, float] = defaultdict(float)
    for one in remains.values():
        for spec, _, home in one.homes():
            sizes[home] += one.ratio * spec.nbytes
    return {**planned, **{digest: Location(root, "", 0, int(size)) for digest, size in sizes.items()}}
