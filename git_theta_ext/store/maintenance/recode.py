"""Hold tensors as differences from earlier ones, where that takes fewer bytes.

What it does to reading is bounded: no tensor leans on more than ``depth`` others one behind another, so a checkout
decodes at most ``depth + 1`` times the bytes of a checkpoint.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from git_theta_ext.registry import find_encoding, names
from git_theta_ext.store.deltas.chains import smallest, sound_first
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.encode import DeltaHint, coded_blobs, dense_estimate, estimate
from git_theta_ext.store.deltas.graph import DeltaGraph
from git_theta_ext.store.locations import Location
from git_theta_ext.store.maintenance.extract import starting_within
from git_theta_ext.store.packs.writer import dense_blob
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.packs.writer import NewBlob
    from git_theta_ext.store.store import Store

_SMALLEST = 256
"""Stored bytes below which a difference, with its part of the header, is no smaller."""

_WORTH = 0.95
_ENOUGH = 1 / 64
"""Share of a tensor's bytes below which no better way than a plain difference is looked for."""

_DEPTH_PRICE = 1.3
"""What one more step of decoding may cost in bytes. It keeps shallow tensors about for later ones to lean on."""

_PACK = 1 << 25
"""About the most stored bytes of a pack of differences: what changed with one version is fetched together."""


@dataclass(frozen=True)
class Candidate:
    """A tensor that may lean on others.

    Attributes:
        digest: Of the tensor.
        spec: Its element type and shape.
        parents: Digests and specs of what it may start from, the likeliest first; all came to be before it.
    """

    digest: Digest
    spec: TensorSpec
    parents: tuple[tuple[Digest, TensorSpec], ...]


@dataclass
class Recoded:
    """What recoding did, or would do.

    Attributes:
        examined: Tensors that were looked at.
        tensors: Encoding to number of tensors that are held in that way now.
        before: Stored bytes of these tensors before.
        after: The same now.
    """

    examined: int = 0
    tensors: dict[str, int] = field(default_factory=dict)
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class _Plan:
    """How a tensor is to be held: leaning on nothing where there is no hint."""

    candidate: Candidate
    hint: DeltaHint | None
    stored: int

    @property
    def parent(self) -> Digest | None:
        return None if self.hint is None else self.hint.parent


class Recoder:
    """Chooses encodings by sampling, and writes packs of what became smaller.

    Args:
        store: That holds the tensors.
        depth: The most bases one behind another.
        aggressive: Reconsider everything and try every encoding with every parent. What leans on more than ``depth``,
            since that was allowed once, is held otherwise, in more bytes where need be.
        dry_run: Only estimate.
        going: Digests that are to be handed out, and those that are known where they go: the former are to lean on
            nothing else.

    Attributes:
        result: What was done, or would be.
        planned: Where only estimates are wanted: what would be held otherwise, in no pack yet.
    """

    def __init__(
        self,
        store: Store,
        depth: int,
        *,
        aggressive: bool = False,
        dry_run: bool = False,
        going: tuple[AbstractSet[Digest], AbstractSet[Digest]] | None = None,
    ) -> None:
        self._store = store
        self._limit = depth
        self._aggressive = aggressive
        self._dry_run = dry_run
        self._encodings = [name for name in names("encodings") if find_encoding(name).needs]
        self._loose = store.index.loose(str(store.root))
        self._parents_allowed = going[0] | going[1] if going else None
        self._graph = DeltaGraph(self._best_locations(going[0] if going else frozenset()))
        self.result = Recoded()
        self.planned: dict[Digest, Location] = {}

    def wants(self, digest: Digest) -> bool:
        """Tell whether a tensor is held here and was not dealt with before. Others need not be candidates."""
        held = self._graph.chosen.get(digest)
        if held is None or held.root != str(self._store.root):
            return False
        return self._aggressive or held.pack in self._loose or not held.pack

    def run(self, groups: Iterable[Sequence[Candidate]], advance: Callable[[int], None] = no_progress) -> Recoded:
        """Recode what pays.

        Args:
            groups: What came to be together, oldest first; each is written before the next is looked at.
            advance: Told the number of tensor bytes dealt with, as it goes.

        Raises:
            StoreError: The file system refused; what was written by then stays.
            CorruptError: A tensor cannot be decoded, or does not come back from what was written.
        """
        from threadpoolctl import threadpool_limits

        import_module("numpy")  # only what is loaded can be limited
        # Tensors are dealt with side by side, so the matrix products of each have one core.
        with threadpool_limits(1), ThreadPoolExecutor(self._store.threads) as executor:
            for group in groups:
                wanted = [candidate for candidate in group if self._may_move(candidate)]
                self.result.examined += len(wanted)
                plans = [plan for plan in executor.map(self._plan, wanted) if plan is not None]
                # Parents may have moved since, by plans for the same group.
                accepted = [plan for plan in plans if self._accept(plan)]
                if accepted and not self._dry_run:
                    self._write(accepted)
                advance(sum(candidate.spec.nbytes for candidate in group))
        return self.result

    def _best_locations(self, going: AbstractSet[Digest]) -> dict[Digest, Location]:
        locations = self._store.all_locations()
        choose = partial(smallest, depth=self._limit)
        if self._parents_allowed is None:
            return sound_first(locations, choose)
        chosen = sound_first(starting_within(locations, going, self._parents_allowed), choose)
        root = str(self._store.root)
        # What starts from something else is taken to be held whole, in no pack: it will be, unless it starts anew here.
        rest = {digest for digest in going if digest not in chosen and digest in locations}
        return chosen | {digest: Location(root, "", 0, 0) for digest in rest}

    def _may_move(self, candidate: Candidate) -> bool:
        if not self.wants(candidate.digest):
            return False
        return self._bytes_now(candidate) >= _SMALLEST or self._too_deep(candidate.digest)

    def _too_deep(self, digest: Digest) -> bool:
        """Tell whether a tensor leans on more than it may, which was allowed once and is to end."""
        return self._aggressive and self._graph.depths[digest] > self._limit

    def _plan(self, candidate: Candidate) -> _Plan | None:
        plan = self._difference(candidate)
        if not self._too_deep(candidate.digest):
            return plan if plan is not None and plan.stored < _WORTH * self._bytes_now(candidate) else None
        blobs = self._store.blobs({candidate.digest})
        whole = dense_estimate(StoredSource(self._store.decoder, blobs, candidate.digest))
        return plan if plan is not None and plan.stored < whole else _Plan(candidate, None, whole)

    def _difference(self, candidate: Candidate) -> _Plan | None:
        """Return the cheapest way to hold a tensor as a difference from one of its possible parents."""
        parents = self._parents(candidate)
        if not parents:
            return None
        digests = {candidate.digest, *(digest for digest, _ in parents)}
        blobs = self._store.blobs(digests)
        priced: list[tuple[float, _Plan]] = []
        for parent in parents:
            priced += self._priced(candidate, parent, "delta", blobs)
        likely = parents
        if priced and not self._aggressive:
            best = min(priced, key=lambda found: found[0])[1]
            enough = best.stored <= _ENOUGH * candidate.spec.nbytes
            likely = [] if enough else [parent for parent in parents if parent[0] == best.parent]
        for parent in likely:
            for name in self._encodings:
                if name != "delta":
                    priced += self._priced(candidate, parent, name, blobs)
        return min(priced, key=lambda found: found[0])[1] if priced else None

    def _bytes_now(self, candidate: Candidate) -> int:
        held = self._graph.chosen[candidate.digest]
        return held.stored if held.pack else candidate.spec.nbytes

    def _parents(self, candidate: Candidate) -> list[tuple[Digest, TensorSpec]]:
        """Return the nearest possible parent of each depth: how near counts more than which, at the same price."""
        found: dict[int, tuple[Digest, TensorSpec]] = {}
        for digest, spec in candidate.parents:
            if spec.dtype == candidate.spec.dtype and self._may_lean(candidate.digest, digest):
                found.setdefault(self._graph.depths[digest], (digest, spec))
        return list(found.values())

    def _may_lean(self, digest: Digest, parent: Digest) -> bool:
        if self._parents_allowed is not None and parent not in self._parents_allowed:
            return False
        if parent not in self._graph.chosen or self._graph.would_cycle(digest, parent):
            return False
        # What leans on something that is too deep is so itself, and comes to be moved later.
        above = 0 if self._too_deep(digest) else self._graph.height(digest)
        return self._graph.depths[parent] + 1 + above <= self._limit

    def _priced(
        self, candidate: Candidate, parent: tuple[Digest, TensorSpec], name: str, blobs: Blobs
    ) -> list[tuple[float, _Plan]]:
        digest, spec = parent
        target = StoredSource(self._store.decoder, blobs, candidate.digest)
        source = StoredSource(self._store.decoder, blobs, digest)
        fit = find_encoding(name).fit(target, source)
        if fit is None:
            return []
        hint = DeltaHint(name, digest, spec, fit)
        stored = estimate(hint, target, source)
        return [(stored * _DEPTH_PRICE ** self._graph.depths[digest], _Plan(candidate, hint, stored))]

    def _accept(self, plan: _Plan) -> bool:
        digest, bases = plan.candidate.digest, () if plan.parent is None else (plan.parent,)
        if not all(self._may_lean(digest, parent) for parent in bases):
            return False
        before, encoding = self._graph.chosen[digest], plan.hint.encoding if plan.hint else "dense"
        self.result.before += self._bytes_now(plan.candidate)
        self.result.after += plan.stored
        self.result.tensors[encoding] = self.result.tensors.get(encoding, 0) + 1
        self._graph.move(digest, Location(before.root, before.pack, before.entry, plan.stored, bases))
        if self._dry_run:
            self.planned[digest] = Location(before.root, "", 0, plan.stored, bases)
        return True

    def _write(self, plans: Sequence[_Plan]) -> None:
        store = self._store
        digests = {digest for plan in plans for digest in (plan.candidate.digest, plan.parent) if digest is not None}
        blobs = store.blobs(digests)

        def opener(digest: Digest) -> Callable[[], StoredSource]:
            return lambda: StoredSource(store.decoder, blobs, digest)

        packs: list[list[NewBlob]] = [[]]
        filled = 0
        for plan in plans:
            if packs[-1] and filled + plan.stored > _PACK:
                packs.append([])
                filled = 0
            digest = plan.candidate.digest
            if plan.hint is None:
                packs[-1].append(dense_blob(digest, opener(digest)))
            else:
                packs[-1] += coded_blobs(digest, plan.hint, opener(digest), opener(plan.hint.parent))
            filled += plan.stored
        store.write([_distinct(pack) for pack in packs], loose=False)


def _distinct(blobs: Iterable[NewBlob]) -> list[NewBlob]:
    return list({blob.digest: blob for blob in blobs}.values())
