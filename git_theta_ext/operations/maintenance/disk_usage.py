"""Where the bytes of a store are: by version, by encoding, by parameter. Pure: packs' heads and manifests in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.diff.group import Item, fold
from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import in_packs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.history.versions import Version
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.packs.format import Entry, PackHeader

_MOST_GROUPS = 20
_SKELETON = "(file layout)"


@dataclass
class Share:
    """Some tensors together.

    Attributes:
        label: What they have in common.
        tensors: How many.
        raw: Their bytes in checkpoints.
        stored: Their bytes in packs.
        absent: Bytes in checkpoints of those that are not here.
    """

    label: str
    tensors: int = 0
    raw: int = 0
    stored: int = 0
    absent: int = 0

    def add(self, raw: int, stored: int | None) -> None:
        """Count one more; ``stored`` is None where it is not here."""
        self.tensors += 1
        self.raw += raw
        self.stored += stored or 0
        self.absent += raw if stored is None else 0


@dataclass
class VersionShare:
    """What came with a version.

    Attributes:
        path: Of the checkpoint.
        commit: None where it is only staged.
        time: Of the commit, in seconds.
        raw: Bytes of all its tensors and its skeleton.
        new: The part of it that no earlier version has, and what that leans on and no earlier one does.
    """

    path: str
    commit: str | None
    time: int
    raw: int
    new: Share


@dataclass(frozen=True)
class Disk:
    """The packs of a store, in bytes.

    Attributes:
        packs: Their number.
        total: All of them.
        live: What versions are read from.
        heads: Heads of packs.
        again: What another pack holds in fewer bytes.
        unreachable: What no version names or leans on.
        damaged: Packs whose head cannot be read.
    """

    packs: int
    total: int
    live: int
    heads: int
    again: int
    unreachable: int
    damaged: int


@dataclass(frozen=True)
class Usage:
    """Where the bytes are.

    Attributes:
        versions: Oldest first.
        encodings: By what is stored, largest first.
        parameters: By name, largest first; several versions of a parameter are one.
        groups: The same, names that differ only in numbers folded into one.
        disk: The whole store.
    """

    versions: Sequence[VersionShare]
    encodings: Sequence[Share]
    parameters: Sequence[Share]
    groups: Sequence[Share]
    disk: Disk

    @property
    def raw(self) -> int:
        """Bytes of all versions, each counted in full."""
        return sum(version.raw for version in self.versions)

    @property
    def unique(self) -> int:
        """Bytes of all different tensors and skeletons among them."""
        return sum(parameter.raw for parameter in self.parameters)

    @property
    def stored(self) -> int:
        """Bytes that these take in packs."""
        return sum(version.new.stored for version in self.versions)

    @property
    def absent(self) -> int:
        """Bytes of those that are not here."""
        return sum(version.new.absent for version in self.versions)


@dataclass(frozen=True)
class _Stored:
    entries: Mapping[Digest, Entry]
    chosen: Mapping[Digest, Location]

    def size(self, digest: Digest) -> int | None:
        return self.chosen[digest].stored if digest in self.chosen else None


@dataclass
class _Tally:
    """What was counted so far; each digest counts once, where it first comes."""

    stored: _Stored
    seen: set[Digest] = field(default_factory=set)
    encodings: dict[str, Share] = field(default_factory=dict)
    parameters: dict[str, Share] = field(default_factory=dict)
    specs: dict[str, TensorSpec] = field(default_factory=dict)

    def count(self, digest: Digest, raw: int, *shares: Share) -> bool:
        if digest in self.seen:
            return False
        self.seen.add(digest)
        size = self.stored.size(digest)
        for share in shares:
            share.add(raw, size)
        if size is not None:
            kind = self.stored.entries[digest].encoding
            self.encodings.setdefault(kind, Share(kind)).add(raw, size)
        return True


def measure(
    versions: Sequence[Version], packs: Mapping[str, PackHeader], disk_bytes: int, only: Collection[str] | None = None
) -> Usage:
    """Add up what versions take.

    Args:
        versions: All of them, oldest first.
        packs: Name to header of every pack that is here and can be read.
        disk_bytes: Size of all packs, those that cannot be read among them.
        only: Paths; others' versions are not counted, though what they need is not unreachable for that.
    """
    stored = _stored(packs)
    named = {digest for version in versions for digest, _ in version.manifest.digests()}
    tally = _Tally(stored)
    picked = [version for version in versions if only is None or version.path in only]
    # What versions name comes first: what only serves as a base is then the share of the first that leans on it.
    shares = [_count_named(version, tally) for version in picked]
    for version, share in zip(picked, shares, strict=True):
        _count_bases(version, share, tally)
    parameters = sorted(tally.parameters.values(), key=lambda share: (-share.stored, -share.raw, share.label))
    return Usage(
        versions=shares,
        encodings=sorted(tally.encodings.values(), key=lambda share: (-share.stored, share.label)),
        parameters=parameters,
        groups=_groups(tally),
        disk=_disk(packs, disk_bytes, stored.chosen, named),
    )


def _stored(packs: Mapping[str, PackHeader]) -> _Stored:
    chosen = smallest(in_packs(packs))
    return _Stored({d: packs[location.pack].entries[location.entry] for d, location in chosen.items()}, chosen)


def _count_named(version: Version, tally: _Tally) -> VersionShare:
    manifest = version.manifest
    share = VersionShare(version.path, version.commit, version.time, 0, Share(version.path))
    named = [(_SKELETON, manifest.skeleton.spec, manifest.skeleton.digest)]
    named += [(name, parameter.spec, parameter.digest) for name, parameter in manifest.parameters.items()]
    for name, spec, digest in named:
        share.raw += spec.nbytes
        tally.specs[name] = spec
        tally.count(digest, spec.nbytes, share.new, tally.parameters.setdefault(name, Share(name)))
    return share


def _count_bases(version: Version, share: VersionShare, tally: _Tally) -> None:
    # Factors and forgotten parents are in no checkpoint: they take bytes and stand for none.
    for name, parameter in version.manifest.parameters.items():
        for digest in sorted(ancestors({parameter.digest}, tally.stored.chosen)):
            tally.count(digest, 0, share.new, tally.parameters[name])


def _groups(tally: _Tally) -> list[Share]:
    items = [Item("", name, str(tally.specs[name])) for name in sorted(tally.parameters) if name != _SKELETON]
    rows = [(row.label, [item.name for item in row.items]) for row in fold(items, _MOST_GROUPS)]
    if _SKELETON in tally.parameters:
        rows.append((_SKELETON, [_SKELETON]))
    groups = [_sum(label, (tally.parameters[name] for name in names)) for label, names in rows]
    return sorted(groups, key=lambda share: (-share.stored, -share.raw, share.label))


def _sum(label: str, shares: Iterable[Share]) -> Share:
    total = Share(label)
    for share in shares:
        total.tensors += share.tensors
        total.raw += share.raw
        total.stored += share.stored
        total.absent += share.absent
    return total


def _disk(
    packs: Mapping[str, PackHeader], total: int, chosen: Mapping[Digest, Location], named: Collection[Digest]
) -> Disk:
    reachable = ancestors(set(named) & set(chosen), chosen)
    live = again = unreachable = 0
    for name, header in packs.items():
        for number, entry in enumerate(header.entries):
            if entry.digest not in reachable:
                unreachable += entry.stored
            elif (chosen[entry.digest].pack, chosen[entry.digest].entry) == (name, number):
                live += entry.stored
            else:
                again += entry.stored
    heads = sum(header.nbytes for header in packs.values())
    damaged = total - sum(header.pack_bytes for header in packs.values())
    return Disk(len(packs), total, live, heads, again, unreachable, max(0, damaged))
