"""Find the cheapest way to store a tensor, by estimates on samples of its values."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, cast

from git_theta_ext.records import NamedTuple
from git_theta_ext.registry import find_encoding, names
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.decoded_chunks import DecodedChunks
from git_theta_ext.store.deltas.encode import DeltaHint, dense_estimate, estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.interfaces import Sampled
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs, Decoder
    from git_theta_ext.store.packs.reader import StoredBlob

_ENOUGH = 1 / 64
"""Share of a tensor's bytes below which no encoding other than ``delta`` is tried."""

_KNOWN = 1 << 25
"""Bytes of decoded chunks that each thread remembers."""

_DEPTH_PRICE = 1.3
"""Factor in bytes that one more step of decoding counts as. It prefers parents with a small chain depth."""


class Candidate(NamedTuple):
    """A tensor that may become a delta. It is a tuple, as are those below: a push makes one for each of its tensors.

    Attributes:
        digest: Digest of the tensor.
        spec: Element type and shape.
        parents: Digest and spec of possible parents, the most likely first. All are older than the tensor.
        members: Number of tensors if it is a bundle.
    """

    digest: Digest
    spec: TensorSpec
    parents: tuple[tuple[Digest, TensorSpec], ...]
    members: int = 0

    @property
    def bundled(self) -> bool:
        """Whether it is a bundle."""
        return self.members > 0

    @property
    def tensors(self) -> int:
        """Number of tensors."""
        return self.members or 1


class PossibleParent(NamedTuple):
    """A tensor that a delta may depend on: its digest and spec, and its chain depth."""

    digest: Digest
    spec: TensorSpec
    depth: int


class StoragePlan(NamedTuple):
    """How to store a tensor.

    Attributes:
        candidate: The tensor.
        hint: The encoding and the parent; None to store it without a base.
        stored: Estimate of the bytes that it will take.
        made: The blob of the parent, if that has to be written, too: it has no bytes of its own.
    """

    candidate: Candidate
    hint: DeltaHint | None
    stored: int
    made: StoredBlob | None = None

    @property
    def parent(self) -> Digest | None:
        """The tensor that it becomes a delta of."""
        return None if self.hint is None else self.hint.parent

    @property
    def read(self) -> tuple[Digest, ...]:
        """What is read of the store to write it, besides all that this depends on."""
        if self.made is not None:
            return self.candidate.digest, *self.made.entry.bases
        return (self.candidate.digest,) if self.hint is None else (self.candidate.digest, self.hint.parent)


def encodings_with_bases() -> list[str]:
    """Return the names of all encodings that store a tensor by others."""
    return [name for name in names("encodings") if find_encoding(name).needs]


def cheapest_delta(  # noqa: PLR0913 - each is a part of the question
    decoder: Decoder,
    blobs: Blobs,
    candidate: Candidate,
    parents: Sequence[PossibleParent],
    encodings: Sequence[str],
    *,
    thorough: bool,
    below: float = inf,
) -> StoragePlan | None:
    """Return the cheapest way to store a tensor as a delta of one of some parents; None if there is none.

    A smaller chain depth counts, but only among deltas that save bytes: what a likely parent is a delta of may be a
    bundle of other tensors.

    Args:
        decoder: Decodes tensors.
        blobs: The blobs of the tensors, and all that they depend on.
        candidate: The tensor.
        parents: The parents, the most likely first.
        encodings: Names of the encodings; ``delta`` is tried first.
        thorough: Whether to try every encoding with every parent, and not only with the one of the best delta.
        below: Stored bytes that a delta has to take less than.
    """
    if not parents:
        return None
    # The parents are often deltas of each other.
    known = DecodedChunks(_KNOWN)
    target = StoredSource(decoder, blobs, candidate.digest, known)
    sources = {parent.digest: StoredSource(decoder, blobs, parent.digest, known) for parent in parents}

    def priced(parent: PossibleParent, name: str) -> list[tuple[float, StoragePlan]]:
        source = sources[parent.digest]
        fit = find_encoding(name).fit(target, source)
        if fit is None:
            return []
        hint = DeltaHint(name, parent.digest, parent.spec, fit)
        stored = estimate(hint, target, source)
        return [(stored * _DEPTH_PRICE**parent.depth, StoragePlan(candidate, hint, stored))]

    options = [option for parent in parents for option in priced(parent, "delta")]
    likely = list(parents)
    if options and not thorough:
        best = min(options, key=lambda option: option[0])[1]
        enough = best.stored <= _ENOUGH * candidate.spec.nbytes
        likely = [] if enough else [parent for parent in parents if parent.digest == best.parent]
    for name in encodings:
        if name != "delta":
            suited = likely if thorough else _suited(name, target, sources, likely, parents)
            options += [option for parent in suited for option in priced(parent, name)]
    useful = [option for option in options if option[1].stored < below]
    return min(useful, key=lambda option: option[0])[1] if useful else None


def _suited(
    name: str,
    target: StoredSource,
    sources: Mapping[Digest, StoredSource],
    likely: Sequence[PossibleParent],
    parents: Sequence[PossibleParent],
) -> Sequence[PossibleParent]:
    """Return the parents to try an encoding with: ``likely``, or the one that suits it best if it can tell.

    The parent of the best delta is often an older version at a smaller chain depth. The ranks of all updates since then
    add up, so the newest version may need far smaller factors.
    """
    encoding = cast("Sampled", find_encoding(name))
    if not likely or not hasattr(encoding, "expected_bytes"):
        return likely

    def prices(some: Iterable[PossibleParent]) -> dict[PossibleParent, float]:
        sizes = {parent: encoding.expected_bytes(target, sources[parent.digest]) for parent in some}
        return {parent: size * _DEPTH_PRICE**parent.depth for parent, size in sizes.items() if size is not None}

    first = dict.fromkeys([*likely, parents[0]])
    found = prices(first)
    if found:  # updates of other versions may have an even lower rank
        found |= prices(parent for parent in parents if parent not in first)
    return sorted(found, key=lambda parent: found[parent])[:1]


def without_base(decoder: Decoder, blobs: Blobs, candidate: Candidate) -> StoragePlan:
    """Return the way to store a tensor without a base."""
    source = StoredSource(decoder, blobs, candidate.digest)
    return StoragePlan(candidate, None, dense_estimate(source))
