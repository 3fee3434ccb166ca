"""Find what bundles may become deltas of: bundles of the parents of their tensors."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.store.locations import Location, Verdict
from git_theta_ext.store.maintenance.added import AddedTensors
from git_theta_ext.store.maintenance.cheapest import Candidate
from git_theta_ext.store.packs.format import GATHERED, MAX_SOURCES, PART, Entry
from git_theta_ext.store.packs.reader import StoredBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.deltas.graph import DeltaGraph
    from git_theta_ext.store.maintenance.cheapest import StoragePlan

_REMEMBERED = 1 << 10
"""Bundles of parents that are remembered."""


class BundleCandidates:
    """Turns candidates that are in bundles into bundles that are candidates.

    The parent of a bundle has a parent of each of its tensors in the same place. If the same tensors were stored
    together in an earlier version, that is a bundle of the store. Otherwise it is gathered from the bundles that have
    them, and written as an entry without bytes, next to the delta. A tensor that is stored on its own, but whose parent
    is in a bundle, gets its parent in the same way.

    Args:
        graph: What is a delta of what. Parents that have to be written are added.
        stored: The bundle that each tensor is in.
        blob_at: Returns the blob of a digest at a location.
        look_up: Returns the blobs of digests that the store has, and of all that they depend on.
    """

    def __init__(
        self,
        graph: DeltaGraph,
        stored: Mapping[Digest, Digest],
        blob_at: Callable[[Digest, Location], StoredBlob],
        look_up: Callable[[set[Digest]], Blobs],
    ) -> None:
        self._graph = graph
        self._stored = stored
        self._blob_at = blob_at
        self._look_up = look_up
        self._made: dict[Digest, Entry] = {}
        # The parents of a version are those of the next one, too, but for one.
        self._of_parents: dict[tuple[Digest, ...], Bundle] = {}
        self._blobs: dict[Digest, StoredBlob] = {}

    def of(self, tensors: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates as they are stored: as bundles, or on their own."""
        return self._of_added(tensors) if isinstance(tensors, AddedTensors) else self._of_each(tensors)

    def _of_added(self, tensors: AddedTensors) -> list[Candidate]:
        """Do the same with as few steps for each tensor as possible."""
        counts = Counter(map(self._stored.get, tensors.digests))
        found: dict[Digest | None, Candidate] = {}
        for name, count in counts.items():
            if name is None or name in self._stored:
                continue
            entry = self._blob(name).entry
            if entry.bundle is None or len(entry.bundle) != count:  # some of its tensors belong to other versions
                continue
            if (parents := tensors.parents_of(entry.bundle.digests())) is not None:
                found[name] = self._child(name, entry, [self._alike(entry.bundle, digests) for digests in parents])
        if sum(map(counts.__getitem__, found)) == len(tensors.digests):
            return [*found.values()]
        left = {digest for digest in tensors.digests if self._stored.get(digest) not in found}
        return [*found.values(), *self._of_each(tensors.among(left))]

    def _of_each(self, tensors: Sequence[Candidate]) -> list[Candidate]:
        alone: list[Candidate] = []
        bundles: dict[Digest, dict[Digest, Candidate]] = defaultdict(dict)
        for candidate in tensors:
            name = self._stored.get(candidate.digest, candidate.digest)
            if name == candidate.digest:
                self._add_parts(candidate)
                alone.append(candidate)
            else:
                bundles[name][candidate.digest] = candidate
        return [*(self._bundle(name, members) for name, members in bundles.items()), *alone]

    def with_blobs(self, digests: AbstractSet[Digest]) -> Blobs:
        """Return the blobs of some digests and of all that they depend on, also of those that have to be written."""
        made = [self._made[digest] for digest in digests if digest in self._made]
        found = self._look_up({*(digests - self._made.keys()), *(base for entry in made for base in entry.bases)})
        self._blobs.update((entry.digest, StoredBlob(found[entry.bases[0]].path, entry)) for entry in made)
        return {**found, **{entry.digest: self._blobs[entry.digest] for entry in made}} if made else found

    def completed(self, plan: StoragePlan) -> StoragePlan:
        """Return a plan with its parent, if that has to be written."""
        if plan.parent not in self._made:
            return plan
        entry = self._made[plan.parent]
        path = self._blobs[plan.parent].path if plan.parent in self._blobs else self._blob(entry.bases[0]).path
        return plan._replace(made=StoredBlob(path, entry))

    def _blob(self, name: Digest) -> StoredBlob:
        if name not in self._blobs:
            location = self._graph.chosen[name]
            # A push counts deltas of what it does not push as stored whole, in a pack without a name.
            self._blobs[name] = self._blob_at(name, location) if location.pack else self._look_up({name})[name]
        return self._blobs[name]

    def _add_parts(self, candidate: Candidate) -> None:
        """Add those parents of a tensor that are only in bundles."""
        for parent, spec in candidate.parents:
            bundle = self._stored.get(parent, parent)
            if bundle == parent or parent in self._graph.chosen or bundle not in self._graph.chosen:
                continue
            entry = self._blob(bundle).entry
            members = () if entry.bundle is None else entry.bundle.members()
            start = next((start for start, _, digest in members if digest == parent), None)
            if start is not None:
                self._add(Entry(parent, spec, PART, (), 0, (bundle,), {"start": start}))

    def _bundle(self, name: Digest, members: Mapping[Digest, Candidate]) -> Candidate:
        entry = self._blob(name).entry
        order = [members.get(digest) for _, _, digest in entry.bundle.members()] if entry.bundle is not None else []
        whole = [candidate for candidate in order if candidate is not None]
        if not whole or len(whole) < len(order):  # some belong to another version
            return Candidate(name, entry.spec, (), max(1, len(order)))
        return self._child(name, entry, self._parents(whole))

    def _child(self, name: Digest, entry: Entry, likely: Iterable[Bundle]) -> Candidate:
        """Return a bundle with its possible parents, of which those that the store lacks are gathered."""
        parents = {parent.digest: parent for parent in likely if parent.digest != name}
        for parent in parents.values():
            self._gather(parent)
        held = tuple((parent.digest, parent.spec) for parent in parents.values())
        return Candidate(name, entry.spec, held, 1 if entry.bundle is None else len(entry.bundle))

    def _parents(self, tensors: Sequence[Candidate]) -> Iterator[Bundle]:
        """Yield the bundles of the likeliest parents of some tensors, then of the next ones."""
        places = tuple([tensor.spec for tensor in tensors])
        for parents in zip(*[tensor.parents for tensor in tensors], strict=False):
            digests, specs = zip(*parents, strict=True)
            if specs == places or all(map(_fills, places, specs)):
                held = self._of_parents.get(digests)
                yield held or self._remember(digests, Bundle.of(list(zip(specs, digests, strict=True))))

    def _alike(self, bundle: Bundle, digests: Sequence[Digest]) -> Bundle:
        """Return the bundle of other tensors of the same specs."""
        key = tuple(digests)
        return self._of_parents.get(key) or self._remember(key, bundle.alike(digests))

    def _remember(self, digests: tuple[Digest, ...], bundle: Bundle) -> Bundle:
        self._of_parents[digests] = bundle
        if len(self._of_parents) > _REMEMBERED:
            del self._of_parents[next(iter(self._of_parents))]
        return bundle

    def _gather(self, bundle: Bundle) -> None:
        """Add a bundle that the store does not have, if all of its tensors are there."""
        if bundle.digest in self._graph.chosen:
            return
        bases = dict.fromkeys(self._stored.get(digest, digest) for digest in bundle.digests())
        if len(bases) <= MAX_SOURCES and all(base in self._graph.chosen for base in bases):
            self._add(Entry(bundle.digest, bundle.spec, GATHERED, (), 0, tuple(bases), {}, bundle))

    def _add(self, entry: Entry) -> None:
        self._made[entry.digest] = entry
        self._graph.add(entry.digest, Location("", "", 0, 0, entry.bases, Verdict.SOUND))


def _fills(spec: TensorSpec, parent: TensorSpec) -> bool:
    """Return whether a parent has the place of a tensor in a bundle."""
    return parent is spec or (parent.nbytes == spec.nbytes and parent.dtype is spec.dtype)
