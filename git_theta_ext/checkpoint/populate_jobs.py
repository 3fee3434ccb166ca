"""Write the tensors of a checkpoint in jobs, which can run on other machines: each writes its part of one file."""

from __future__ import annotations

import os
import zlib
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job, divided
from git_theta_ext.errors import CorruptError
from git_theta_ext.records import dataclass
from git_theta_ext.store.job_store import JobStore
from git_theta_ext.store.read_ahead import largest_piece
from git_theta_ext.util.files import reporting_os_errors, write_at
from git_theta_ext.util.system import open_file
from git_theta_ext.util.threads import window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor goes.

    Attributes:
        offset: Offset of its first byte in the file.
        digest: Its digest.
        spec: Its element type and shape.
        seeds: Seeds of the CRC-32 sums of it that the file has elsewhere.
    """

    offset: int
    digest: Digest
    spec: TensorSpec
    seeds: tuple[int, ...] = ()


def write_in_jobs(
    path: Path, places: Sequence[TensorPlace], store: Store, workers: Workers, advance: Callable[[int], None]
) -> list[dict[int, int]]:
    """Write tensors into a file that exists. They are verified, and durable on return.

    Args:
        path: Path of the file, which all workers can write to.
        places: The tensors.
        store: The store of the tensors.
        workers: Run the jobs.
        advance: Called with the number of bytes written since the last call.

    Returns:
        For each tensor, each seed with the CRC-32 sum.

    Raises:
        MissingError: A tensor is not in the store.
        CorruptError: A stored tensor is damaged.
        StoreError: The file cannot be written.
        ClusterError: The workers cannot run a job.
    """
    parts = divided(places, [place.spec.nbytes for place in places])
    needed = [store.blobs({place.digest for place in part}) for part in parts]
    largest = max((largest_piece(place.spec, 1)[0] * place.spec.dtype.bits // 8 for place in places), default=0)
    memory = largest * (window(workers.threads) + 2)
    jobs = (
        Job(partial(_write, path, part, blobs, tuple(store.roots), workers.threads), memory)
        for part, blobs in zip(parts, needed, strict=True)
    )
    return list(chain.from_iterable(_results(parts, needed, workers.gather(jobs), store, advance)))


def _results(
    parts: Sequence[Sequence[TensorPlace]],
    needed: Sequence[Blobs],
    results: Iterator[list[dict[int, int]]],
    store: Store,
    advance: Callable[[int], None],
) -> Iterator[list[dict[int, int]]]:
    for part, blobs in zip(parts, needed, strict=True):
        try:
            sums = next(results)
        except CorruptError:
            store.doubt({place.digest for place in part}, blobs)
            raise
        advance(sum(place.spec.nbytes for place in part))
        yield sums


def _write(
    path: Path, places: Sequence[TensorPlace], blobs: Blobs, roots: Sequence[Path], threads: int
) -> list[dict[int, int]]:
    sums = [{seed: seed for seed in place.seeds} for place in places]
    store = JobStore(blobs, roots, roots[0] / "tmp", threads)
    with reporting_os_errors(path):
        descriptor = open_file(path, os.O_WRONLY)
        try:

            def write(piece: DecodedPiece) -> None:
                write_at(descriptor, piece.data, places[piece.group].offset + piece.offset)

            for piece in store.read_aligned([((place.digest, place.spec),) for place in places], write):
                if piece.chunks:
                    begun = sums[piece.group]
                    begun.update({seed: zlib.crc32(piece.data, value) for seed, value in begun.items()})
            os.fsync(descriptor)  # the parts of a file can become durable in any order
        finally:
            os.close(descriptor)
    return sums
