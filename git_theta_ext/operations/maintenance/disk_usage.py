"""Compute the disk usage of a store by version, encoding and parameter, from pack headers and manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.group import Item, fold
from git_theta_ext.operations.maintenance.stored_sizes import StoredSizes, stored_sizes
from git_theta_ext.records import dataclass, field
from git_theta_ext.store.deltas.chains import ancestors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.history.versions import Version
    from git_theta_ext.store.packs.format import PackHeader

_MOST_GROUPS = 20
_SKELETON = "(file layout)"


@dataclass
class Share:
    """The disk usage of a group of tensors.

    Attributes:
        label: What the tensors have in common.
        tensors: Number of tensors.
        raw: Their size in checkpoints, in bytes.
        stored: Their size in packs, in bytes.
        absent: Size in checkpoints of those that are not in the store, in bytes.
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
    """The disk usage of a version of a checkpoint.

    Attributes:
        path: Path of the checkpoint.
        commit: Id of the commit; None if the version is only staged.
        time: Time of the commit, in seconds.
        raw: Size of all its tensors and its skeleton, in bytes.
        new: Tensors that no earlier version has, and the bases of their deltas that no earlier version needs.
    """

    path: str
    commit: str | None
    time: int
    raw: int
    new: Share


@dataclass(frozen=True)
class ModelVersionShare:
    """The disk usage of the files of a model that one commit changed.

    Attributes:
        path: The path that the model has, or would have, as one file.
        files: The usage of each file.
    """

    path: str
    files: tuple[VersionShare, ...]

    @property
    def raw(self) -> int:
        """Size of all tensors and skeletons of these files, in bytes."""
        return sum(file.raw for file in self.files)

    @property
    def new(self) -> Share:
        """Tensors that no earlier version has."""
        return _sum(self.path, (file.new for file in self.files))


def by_model(versions: Iterable[VersionShare], names: Mapping[str, str]) -> list[ModelVersionShare]:
    """Return versions by model and commit, in the same order.

    Args:
        versions: The usage by version, oldest first.
        names: Path to the name of the model that it belongs to, for models of several files.
    """
    groups: dict[tuple[str, str | None], list[VersionShare]] = {}
    for version in versions:
        groups.setdefault((names.get(version.path, version.path), version.commit), []).append(version)
    return [ModelVersionShare(path, tuple(files)) for (path, _), files in groups.items()]


@dataclass(frozen=True)
class Disk:
    """The packs of a store, in bytes.

    Attributes:
        packs: Number of packs.
        total: Size of all packs.
        live: Data that versions are read from.
        heads: Headers of packs.
        again: Data that another pack has in fewer bytes.
        unreachable: Data that no version names and no delta of a version depends on.
        damaged: Packs whose header cannot be read.
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
    """The disk usage of a store.

    Attributes:
        versions: Usage by version, oldest first.
        encodings: Usage by encoding, largest first.
        parameters: Usage by parameter name, all versions together, largest first.
        groups: Usage by parameter name, with names that differ only in numbers grouped together.
        disk: The packs of the whole store.
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


@dataclass
class _Tally:
    """The counts so far; each digest counts once, for the first version that has it."""

    stored: StoredSizes
    seen: set[Digest] = field(default_factory=set)
    followed: set[Digest] = field(default_factory=set)
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
            kind = self.stored.encoding(digest)
            self.encodings.setdefault(kind, Share(kind)).add(raw, size)
        return True


def measure(
    versions: Sequence[Version], packs: Mapping[str, PackHeader], disk_bytes: int, only: Collection[str] | None = None
) -> Usage:
    """Return the disk usage of versions.

    Args:
        versions: All versions, oldest first.
        packs: The header of each readable pack, by name.
        disk_bytes: Size of all packs, including those that cannot be read.
        only: Paths to count. Versions at other paths are not counted, but their data is not unreachable either.
    """
    stored = stored_sizes(packs)
    named = {digest for version in versions for digest, _ in version.manifest.digests()}
    tally = _Tally(stored)
    picked = [version for version in versions if only is None or version.path in only]
    # Tensors that versions name are counted first. A tensor that is only a base then counts for the first version
    # that depends on it.
    shares = [_count_named(version, tally) for version in picked]
    for version, share in zip(picked, shares, strict=True):
        _count_bases(version, share, tally)
    parameters = sorted(tally.parameters.values(), key=lambda share: (-share.stored, -share.raw, share.label))
    return Usage(
        versions=shares,
        encodings=sorted(tally.encodings.values(), key=lambda share: (-share.stored, share.label)),
        parameters=parameters,
        groups=_groups(tally),
        disk=_disk(packs, disk_bytes, stored, named),
    )


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
    # Factors and the parents of removed versions are in no checkpoint: they have a size in packs only.
    for name, parameter in version.manifest.parameters.items():
        # Tensors of a bundle depend on the same.
        held = tally.stored.bundles.get(parameter.digest, parameter.digest)
        if held in tally.followed:
            continue
        tally.followed.add(held)
        for digest in tally.stored.behind(parameter.digest):
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


def _disk(packs: Mapping[str, PackHeader], total: int, stored: StoredSizes, named: Collection[Digest]) -> Disk:
    chosen = stored.chosen
    reachable = ancestors({stored.bundles.get(digest, digest) for digest in named} & chosen.keys(), chosen)
    spare = stored.spare(named, reachable)
    live = again = unreachable = 0
    for name, header in packs.items():
        for number, entry in enumerate(header.entries):
            if entry.digest not in reachable:
                unreachable += entry.stored
            elif (chosen[entry.digest].pack, chosen[entry.digest].entry) == (name, number):
                live += entry.stored - spare.get(entry.digest, 0)
                unreachable += spare.get(entry.digest, 0)
            else:
                again += entry.stored
    heads = sum(header.nbytes for header in packs.values())
    damaged = total - sum(header.pack_bytes for header in packs.values())
    return Disk(len(packs), total, live, heads, again, unreachable, max(0, damaged))
