"""Write packs of tensors as recoding has planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.encode import coded_blobs
from git_theta_ext.store.deltas.proof import provable, proven_blob
from git_theta_ext.store.packs.blobs import dense_blob, empty_blob
from git_theta_ext.store.packs.writer import divided

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs, Decoder
    from git_theta_ext.store.maintenance.cheapest import StoragePlan
    from git_theta_ext.store.packs.blobs import NewBlob
    from git_theta_ext.store.store import Store


def write_plans(
    store: Store,
    plans: Sequence[StoragePlan],
    advance: Callable[[int], None],
    done: Callable[[Iterable[Digest]], None],
) -> None:
    """Write packs. Each is complete before the next is encoded, so that it can be uploaded meanwhile.

    Args:
        store: The store that has the tensors and their parents.
        plans: How to store the tensors.
        advance: Called with the number of tensor bytes encoded since the last call.
        done: Called with the digests of each pack.
    """
    written: set[Digest] = set()
    for pack in divided([(plan, plan.stored) for plan in plans]):
        _write_pack(store, pack, advance, written)
        done(plan.candidate.digest for plan in pack)


def _write_pack(
    store: Store, plans: Sequence[StoragePlan], advance: Callable[[int], None], written: set[Digest]
) -> None:
    """Write a pack without the factors that were written. The bytes of factors do not count as progress."""
    blobs = with_made(store.blobs({digest for plan in plans for digest in plan.read}), plans)

    made = {
        blob.digest: blob
        for plan in plans
        for blob in blobs_of(plan, store.decoder, blobs)
        if blob.digest not in written
    }
    written.update(made)
    left = sum(plan.candidate.spec.nbytes for plan in plans)

    def encoded(nbytes: int) -> None:
        nonlocal left
        advance(min(left, nbytes))
        left -= min(left, nbytes)

    store.write([list(made.values())], encoded, loose=False)
    advance(left)


def with_made(blobs: Blobs, plans: Sequence[StoragePlan]) -> Blobs:
    """Return blobs, and those of parents that are written together with their deltas."""
    made = {plan.made.entry.digest: plan.made for plan in plans if plan.made is not None}
    return {**blobs, **made} if made else blobs


def blobs_of(plan: StoragePlan, decoder: Decoder, blobs: Blobs) -> list[NewBlob]:
    """Return the blobs of a tensor as it is planned, first those that it depends on and that are written with it.

    Args:
        plan: How to store it.
        decoder: Decodes the tensor and its parent.
        blobs: Of both, and of all their bases.
    """
    digest = plan.candidate.digest
    bundle = blobs[digest].entry.bundle

    def opener(name: Digest) -> Callable[[], StoredSource]:
        return lambda: StoredSource(decoder, blobs, name)

    if plan.hint is None:
        return [dense_blob(digest, opener(digest), bundle)]
    made = [] if plan.made is None else [empty_blob(plan.made.entry)]
    if provable(blobs, digest, plan.hint):
        return [*made, proven_blob(decoder, blobs, digest, plan.hint)]
    return [*made, *coded_blobs(digest, plan.hint, opener(digest), opener(plan.hint.parent), bundle)]
