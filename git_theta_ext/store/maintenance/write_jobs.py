"""Write packs of tensors as recoding has planned, in jobs that can run on other machines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.maintenance.write_plans import blobs_of
from git_theta_ext.store.packs.reader import PackReader, StoredBlob
from git_theta_ext.store.packs.writer import PackWriter, divided, pack_path
from git_theta_ext.store.read_ahead import read_ahead
from git_theta_ext.store.work_area import Delivery, deliver
from git_theta_ext.util.threads import no_progress, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.maintenance.cheapest import StoragePlan
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.work_area import WorkArea

_MEMORY = 1 << 30
"""Bytes of memory that a job takes at most: parents of up to 256 MiB are in memory as a whole."""


def write_plans_in_jobs(  # noqa: PLR0913, PLR0917 - as write_plans, and where jobs run
    workers: Workers,
    area: WorkArea,
    store: Store,
    plans: Sequence[StoragePlan],
    advance: Callable[[int], None],
    done: Callable[[Iterable[Digest]], None],
) -> None:
    """Write the same packs as ``write_plans``, each in a job; but factors that two packs need are in both.

    Args:
        workers: Run the jobs.
        area: Where the jobs leave their packs.
        store: As for ``write_plans``.
        plans: As for ``write_plans``.
        advance: As for ``write_plans``.
        done: As for ``write_plans``.

    Raises:
        ClusterError: The workers cannot run a job.
        CorruptError: A tensor cannot be decoded from its old or its new pack.
        StoreError: A pack cannot be written.
    """
    packs = divided([(plan, plan.stored) for plan in plans])
    jobs = (Job(partial(_write, pack, _blobs(store, pack), area.path), _MEMORY) for pack in packs)
    for pack, names in zip(packs, workers.gather(jobs), strict=True):
        area.add(names, loose=False)
        advance(sum(plan.candidate.spec.nbytes for plan in pack))
        done(plan.candidate.digest for plan in pack)


def _blobs(store: Store, plans: Sequence[StoragePlan]) -> Blobs:
    return store.blobs({digest for plan in plans for digest in (plan.candidate.digest, plan.parent) if digest})


def _write(plans: Sequence[StoragePlan], blobs: Blobs, area: Path) -> tuple[str, ...]:
    """Write a pack into the work area, and verify it."""
    decoder = Decoder(PackReader())
    made = {blob.digest: blob for plan in plans for blob in blobs_of(plan, decoder, blobs)}
    packs = PackWriter(area, None, window(1)).write([list(made.values())], no_progress)
    fresh = {entry.digest: StoredBlob(pack_path(area, name), entry) for name, entries in packs for entry in entries}
    proven = {digest for digest, blob in made.items() if blob.proves}
    # A delta of a damaged parent would be lost when the parent is repaired.
    parents = {plan.parent for plan in plans if plan.parent is not None and plan.candidate.digest not in proven}
    known = {**blobs, **fresh}
    groups = [((digest, known[digest].entry.spec),) for digest in sorted({*fresh, *parents} - proven)]
    for _ in read_ahead(decoder, groups, known, threads=1):
        pass
    names = tuple(name for name, _ in packs)
    deliver(area, Delivery(names))
    return names
