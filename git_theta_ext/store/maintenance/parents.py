"""Choose which tensors a tensor may become a delta of."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.store.maintenance.cheapest import PossibleParent

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.graph import DeltaGraph
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.maintenance.cheapest import Candidate
    from git_theta_ext.store.packs.reader import StoredBlob


class Parents:
    """Chooses possible parents of tensors.

    Args:
        graph: What is a delta of what, which the caller keeps up to date.
        blob_at: Returns the blob of a digest at a location.
        limit: Largest chain depth.
        aggressive: Whether tensors with a larger chain depth are recoded, too.
        going: Digests that are about to be pushed, and digests that the remote has. If given, parents are among them.
    """

    def __init__(
        self,
        graph: DeltaGraph,
        blob_at: Callable[[Digest, Location], StoredBlob],
        limit: int,
        *,
        aggressive: bool,
        going: tuple[AbstractSet[Digest], Container[Digest]] | None,
    ) -> None:
        self._graph = graph
        self._blob_at = blob_at
        self._limit = limit
        self._aggressive = aggressive
        self._going = going
        self._specs: dict[Digest, TensorSpec] = {}

    def of(self, candidate: Candidate) -> list[PossibleParent]:
        """Return the most likely parent of each chain depth: at the same depth the first one is best.

        What the likely parents are deltas of comes last. Otherwise a version that many others are deltas of would no
        longer be among the likely ones after a while, and another version would be stored whole.
        """
        by_depth: dict[int, PossibleParent] = {}
        depths, limit = self._graph.depths, self._limit
        self._specs.update(candidate.parents)
        for digest in chain((digest for digest, _ in candidate.parents), self._bases(candidate)):
            depth = depths.get(digest, limit)
            if depth >= limit or depth in by_depth:  # as for most: neighbours often have the same depth
                continue
            if self.allowed(candidate.digest, digest):
                spec = self._spec(digest)
                if spec is not None and spec.dtype == candidate.spec.dtype:
                    by_depth[depth] = PossibleParent(digest, spec, depth)
        return list(by_depth.values())

    def allowed(self, digest: Digest, parent: Digest) -> bool:
        """Return whether a tensor may become a delta of another one."""
        if self._going is not None and not self._goes(parent):
            return False
        if parent not in self._graph.chosen or self._graph.would_cycle(digest, parent):
            return False
        # Tensors that depend on one that is too deep are too deep themselves, and are moved later.
        above = 0 if self.too_deep(digest) else self._graph.height(digest)
        return self._graph.depths[parent] + 1 + above <= self._limit

    def _goes(self, parent: Digest) -> bool:
        """Return whether a tensor, or all bundles that it is made of, are pushed or there."""
        if self._going is None or parent in self._going[0] or parent in self._going[1]:
            return True
        held = self._graph.chosen.get(parent)
        if held is None or held.stored or not held.bases:
            return False
        return all(base in self._going[0] or base in self._going[1] for base in held.bases)

    def too_deep(self, digest: Digest) -> bool:
        """Return whether a tensor has a larger chain depth than is allowed now, and should be recoded."""
        return self._aggressive and self._graph.depths[digest] > self._limit

    def _bases(self, candidate: Candidate) -> Iterator[Digest]:
        """Yield what the likely parents are deltas of, each once, nearest first; not the factors of deltas."""
        chosen = self._graph.chosen
        seen: set[Digest] = set()
        for digest, _ in candidate.parents:
            held = chosen.get(digest)
            while held is not None and held.bases and held.bases[0] not in seen:
                seen.add(held.bases[0])
                yield held.bases[0]
                held = chosen.get(held.bases[0])

    def _spec(self, digest: Digest) -> TensorSpec | None:
        """Return the spec of a tensor; None if its pack cannot be read."""
        if digest not in self._specs:  # no version that was looked at has it
            with suppress(CorruptError, MissingError):
                self._specs[digest] = self._blob_at(digest, self._graph.chosen[digest]).entry.spec
        return self._specs.get(digest)
