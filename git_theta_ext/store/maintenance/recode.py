"""Store tensors as deltas of earlier ones, if that takes fewer bytes.

The cost of reading is bounded: the chain depth is at most ``depth``, so a checkout decodes at most ``depth + 1`` times
the bytes of a checkpoint.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import compress
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass, field
from git_theta_ext.store.deltas.chains import smallest, sound_first
from git_theta_ext.store.deltas.graph import DeltaGraph
from git_theta_ext.store.locations import Location
from git_theta_ext.store.maintenance.bundle_candidates import BundleCandidates
from git_theta_ext.store.maintenance.cheapest import cheapest_delta, encodings_with_bases, without_base
from git_theta_ext.store.maintenance.extract import starting_within
from git_theta_ext.store.maintenance.parents import Parents
from git_theta_ext.store.maintenance.precedents import Precedents
from git_theta_ext.store.maintenance.write_plans import write_plans
from git_theta_ext.util.blas import one_blas_thread
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.maintenance.cheapest import Candidate, StoragePlan
    from git_theta_ext.store.maintenance.precedents import Choice
    from git_theta_ext.store.store import Store

    WritePlans = Callable[
        [Store, Sequence[StoragePlan], Callable[[int], None], Callable[[Iterable[Digest]], None]], None
    ]

_SMALLEST = 256
"""Stored bytes below which a delta, with its entry in the header, saves nothing."""

_WORTH = 0.95

_TOGETHER = 1 << 27
"""Bytes of tensors that are written together: a pack for each small version takes longer than encoding it. Their
parents are read from where they were before."""

_FILLED = 1 << 20
"""Stored bytes from which on gc begins another pack. It can remove the packs of some versions and keep others, and has
no reason to combine these."""


@dataclass
class Recoded:
    """The result of recoding.

    Attributes:
        examined: Number of tensors that were examined.
        tensors: Number of tensors that were recoded, by encoding.
        before: Stored bytes of these tensors before.
        after: Stored bytes of these tensors now.
    """

    examined: int = 0
    tensors: dict[str, int] = field(default_factory=dict)
    before: int = 0
    after: int = 0


def _nothing(_: object) -> None:
    pass


class Recoder:
    """Chooses encodings by sampling, and writes packs of the tensors that become smaller.

    Args:
        store: The store of the tensors.
        depth: Largest chain depth.
        aggressive: Reconsider every tensor, and try every encoding with every parent. Tensors with a larger chain
            depth, which was allowed when they were stored, are recoded even if they become larger.
        dry_run: Only estimate.
        going: Digests that are about to be pushed, and digests that the remote has. The pushed tensors may depend on
            these digests only.
        related: The digests that are recoded and all that they may become deltas of; None for everything in the store.
        stored: The bundle that each tensor is in; tensors that are stored on their own may be left out.
        write: Writes the packs of planned tensors.

    Attributes:
        result: What was done, or in a dry run what would be.
        planned: In a dry run, the new locations, in a pack without a name.
    """

    def __init__(  # noqa: PLR0913 - named
        self,
        store: Store,
        depth: int,
        *,
        aggressive: bool = False,
        dry_run: bool = False,
        going: tuple[AbstractSet[Digest], Container[Digest]] | None = None,
        related: AbstractSet[Digest] | None = None,
        stored: Mapping[Digest, Digest] = MappingProxyType({}),
        write: WritePlans = write_plans,
    ) -> None:
        self._store = store
        self._root = str(store.root)
        self._limit = depth
        self._precedents = Precedents()
        self._aggressive = aggressive
        self._dry_run = dry_run
        self._write = write
        self._encodings = encodings_with_bases()
        self._loose = store.index.loose(self._root)
        self._going = going
        self._filled = _TOGETHER if going else _FILLED
        self._stored = stored
        if related is None:
            locations = store.all_locations()
        else:
            locations = store.locations({stored.get(digest, digest) for digest in related})
        self._graph = DeltaGraph(self._best_locations(locations))
        self._bundles = BundleCandidates(self._graph, stored, store.blob_at, store.blobs)
        self._parents = Parents(self._graph, store.blob_at, depth, aggressive=aggressive, going=going)
        self.result = Recoded()
        self.planned: dict[Digest, Location] = {}

    def _wants(self, name: Digest) -> bool:
        """Return whether a bundle, or a tensor that is stored on its own, is in this store and was not processed."""
        held = self._graph.chosen.get(name)
        if held is None or held.root != self._root:
            return False
        return self._aggressive or held.pack in self._loose or not held.pack

    def wanted(self, digests: AbstractSet[Digest]) -> set[Digest]:
        """Return those of some tensors that are in this store and were not processed before."""
        stored = list(map(self._stored.get, digests, digests))
        names = self.wanted_names(set(stored))
        return set(compress(digests, map(names.__contains__, stored)))

    def wanted_names(self, names: AbstractSet[Digest]) -> set[Digest]:
        """Return those of some bundles, and of tensors that are stored on their own, which are wanted."""
        return set(filter(self._wants, names))

    def run(
        self,
        groups: Iterable[Sequence[Candidate]],
        advance: Callable[[int], None] = no_progress,
        done: Callable[[Iterable[Digest]], None] = _nothing,
    ) -> Recoded:
        """Recode tensors if that saves bytes.

        Args:
            groups: Tensors that were created together, oldest first. Small groups are written together.
            advance: Called with the number of tensor bytes processed since the last call.
            done: Called with the digests of tensors that will not be recoded any more, in this thread.

        Raises:
            StoreError: A pack cannot be written. Packs written before stay.
            CorruptError: A tensor cannot be decoded from its old or its new pack.
        """
        with ExitStack() as running:
            executor: ThreadPoolExecutor | None = None
            limited = False
            accepted: list[StoragePlan] = []
            nbytes = filled = 0
            for tensors in groups:
                group = self._bundles.of(tensors)
                wanted = [candidate for candidate in group if self._may_move(candidate)]
                self.result.examined += sum(candidate.tensors for candidate in wanted)
                # Most tensors of a first version have no parents, and need no thread.
                likely = [one for one in wanted if one.parents or self._parents.too_deep(one.digest)]
                plans: list[StoragePlan] = []
                if likely:
                    executor = executor or running.enter_context(ThreadPoolExecutor(self._store.threads))
                    if not limited and not all(one.bundled for one in likely):
                        # Tensors are processed in parallel, so each matrix product gets one core.
                        running.enter_context(one_blas_thread())
                        limited = True
                    plans = self._plans(likely, executor, advance)
                # Other plans of the same group may have moved the parents.
                fresh = [plan for plan in plans if self._accept(plan)]
                moving = {plan.candidate.digest for plan in fresh if not self._dry_run}
                staying = [candidate for candidate in group if candidate.digest not in moving]
                advance(sum(candidate.spec.nbytes for candidate in staying))
                done(candidate.digest for candidate in staying)
                if moving:
                    accepted += fresh
                    nbytes += sum(plan.candidate.spec.nbytes for plan in fresh)
                    filled += sum(plan.stored for plan in fresh)
                if nbytes >= _TOGETHER or filled >= self._filled:
                    self._write(self._store, accepted, advance, done)
                    accepted, nbytes, filled = [], 0, 0
            if accepted:
                self._write(self._store, accepted, advance, done)
        return self.result

    def _best_locations(self, locations: Locations) -> dict[Digest, Location]:
        choose = partial(smallest, depth=self._limit)
        if self._going is None:
            return sound_first(locations, choose)
        digests, there = self._going
        chosen = sound_first(starting_within(locations, digests, there), choose)
        # A delta of another parent counts as stored whole, in a pack without a name. The push stores it so unless it
        # is recoded first.
        rest = digests - chosen.keys()
        return chosen | {digest: Location(self._root, "", 0, 0) for digest in rest if digest in locations}

    def _may_move(self, candidate: Candidate) -> bool:
        if not self._wants(candidate.digest):
            return False
        return self._bytes_now(candidate) >= _SMALLEST or self._parents.too_deep(candidate.digest)

    def _plans(
        self, candidates: Sequence[Candidate], executor: ThreadPoolExecutor, advance: Callable[[int], None]
    ) -> list[StoragePlan]:
        """Return how to store the tensors for which something else is better than what they are stored as now."""
        choices = {candidate.digest: (candidate, self._parents.of(candidate)) for candidate in candidates}
        every = list(choices.values())
        plans = self._compared(every if self._aggressive else self._precedents.first(every), executor, advance)
        left = [choice for digest, choice in choices.items() if digest not in plans]
        plans |= self._compared([c for c in left if not self._precedents.decides(c)], executor, advance)
        plans |= {
            c[0].digest: self._worthwhile(c[0], self._precedents.plan(c)) for c in left if c[0].digest not in plans
        }
        return [self._bundles.completed(plan) for digest in choices if (plan := plans[digest]) is not None]

    def _compared(
        self, choices: Sequence[Choice], executor: ThreadPoolExecutor, advance: Callable[[int], None]
    ) -> dict[Digest, StoragePlan | None]:
        """Compare the ways to store tensors, and return the best of each; None for what it is stored as now."""
        if not choices:
            return {}
        # One look-up for all of them.
        digests = {d for (c, parents) in choices for d in (c.digest, *(p.digest for p in parents))}
        blobs = self._bundles.with_blobs(digests)
        plans: dict[Digest, StoragePlan | None] = {}
        for choice, plan in zip(choices, executor.map(partial(self._plan, blobs), choices), strict=True):
            advance(0)
            self._precedents.note(choice, plan)
            plans[choice[0].digest] = plan
        return plans

    def _plan(self, blobs: Blobs, choice: Choice) -> StoragePlan | None:
        candidate, parents = choice
        decoder = self._store.decoder
        encodings = ("delta",) if candidate.bundled else self._encodings
        # A tensor that is a delta already stays one of its parent, at a small chain depth.
        below = inf if self._graph.chosen[candidate.digest].bases else _WORTH * self._bytes_now(candidate)
        plan = cheapest_delta(decoder, blobs, candidate, parents, encodings, thorough=self._aggressive, below=below)
        if not self._parents.too_deep(candidate.digest):
            return self._worthwhile(candidate, plan)
        whole = without_base(decoder, blobs, candidate)
        return plan if plan is not None and plan.stored < whole.stored else whole

    def _worthwhile(self, candidate: Candidate, plan: StoragePlan | None) -> StoragePlan | None:
        return plan if plan is not None and plan.stored < _WORTH * self._bytes_now(candidate) else None

    def _bytes_now(self, candidate: Candidate) -> int:
        held = self._graph.chosen[candidate.digest]
        return held.stored if held.pack else candidate.spec.nbytes

    def _accept(self, plan: StoragePlan) -> bool:
        digest, bases = plan.candidate.digest, () if plan.parent is None else (plan.parent,)
        if not all(self._parents.allowed(digest, parent) for parent in bases):
            return False
        before, encoding = self._graph.chosen[digest], plan.hint.encoding if plan.hint else "dense"
        self.result.before += self._bytes_now(plan.candidate)
        self.result.after += plan.stored
        self.result.tensors[encoding] = self.result.tensors.get(encoding, 0) + plan.candidate.tensors
        self._graph.move(digest, Location(before.root, before.pack, before.entry, plan.stored, bases))
        if self._dry_run:
            self.planned[digest] = Location(before.root, "", 0, plan.stored, bases)
            if plan.made is not None:
                made = plan.made.entry
                self.planned[made.digest] = Location(before.root, "", 0, 0, made.bases)
        return True
