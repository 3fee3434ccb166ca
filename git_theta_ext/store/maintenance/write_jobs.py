"""Write packs of tensors as recoding has planned, in jobs that can run on other machines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job
from git_theta_ext.store.maintenance.write_plans import blobs_of, with_made, write_plans
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.packs.reader import StoredBlob
from git_theta_ext.store.packs.writer import divided
from git_theta_ext.store.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.exchange import Exchange, JobInputs
    from git_theta_ext.store.maintenance.cheapest import StoragePlan
    from git_theta_ext.store.store import Store

_MEMORY = 1 << 30
"""Bytes of memory that a job takes at most: parents of up to 256 MiB are in memory as a whole."""


def write_plans_in_jobs(  # noqa: PLR0913, PLR0917 - as write_plans, and where jobs run
    workers: Workers,
    exchange: Exchange,
    store: Store,
    plans: Sequence[StoragePlan],
    advance: Callable[[int], None],
    done: Callable[[Iterable[Digest]], None],
) -> None:
    """Write the same packs as ``write_plans``, each in a job; but factors that two packs need are in both.

    Packs of tensors that jobs cannot read, such as those that were not pushed, are written here: to upload a tensor
    takes longer than to recode it.

    Args:
        workers: Run the jobs.
        exchange: Gives the jobs the tensors, and puts their packs into the store.
        store: As for ``write_plans``.
        plans: As for ``write_plans``.
        advance: As for ``write_plans``.
        done: As for ``write_plans``.

    Raises:
        ClusterError: The workers cannot run a job.
        CorruptError: A tensor cannot be decoded from its old or its new pack.
        StoreError: A pack cannot be written.
        RemoteError: Jobs exchange tensors through a remote, which cannot be reached.
    """
    packs = divided([(plan, plan.stored) for plan in plans])
    readable = exchange.readable({digest for pack in packs for digest in _read_by(pack)})
    there = [pack for pack in packs if _read_by(pack) <= readable]
    jobs = (Job(partial(_write, pack, exchange.inputs(_read_by(pack))), _MEMORY) for pack in there)
    for pack, names in zip(there, workers.gather(jobs), strict=True):
        exchange.add(names)
        advance(sum(plan.candidate.spec.nbytes for plan in pack))
        done(plan.candidate.digest for plan in pack)
    write_plans(store, [plan for pack in packs if not _read_by(pack) <= readable for plan in pack], advance, done)


def _read_by(plans: Sequence[StoragePlan]) -> set[Digest]:
    return {digest for plan in plans for digest in plan.read}


def _write(plans: Sequence[StoragePlan], inputs: JobInputs) -> tuple[str, ...]:
    """Write a pack, verify it, and deliver it."""
    with inputs.opened(1) as store:
        given = with_made(store.blobs, plans)
        made = {blob.digest: blob for plan in plans for blob in blobs_of(plan, store.decoder, given)}
        fresh = {
            entry.digest: StoredBlob(pack_path(store.area, name), entry)
            for name, entries in store.write([list(made.values())])
            for entry in entries
        }
        proven = {digest for digest, blob in made.items() if blob.proves}
        # A delta of a damaged parent would be lost when the parent is repaired.
        parents = {plan.parent for plan in plans if plan.parent is not None and plan.candidate.digest not in proven}
        known = {**given, **fresh}
        groups = [((digest, known[digest].entry.spec),) for digest in sorted({*fresh, *parents} - proven)]
        for _ in read_ahead(store.decoder, groups, known, threads=1):
            pass
        inputs.deliver(store, [])
        return tuple(store.packs)
