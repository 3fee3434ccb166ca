"""A store of tensors in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.store.packs.format import chunk_count
from git_theta_ext.store.read_ahead import piece_at, piece_range, worked
from git_theta_ext.util.threads import batched_map, pool, thread_count, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.read_ahead import DecodedPiece, Groups, Work


class MemoryStore:
    """Stores tensors for as long as the process runs; see ``TensorStore``.

    Args:
        threads: Number of threads; 0 for one per CPU.
    """

    def __init__(self, threads: int = 0) -> None:
        self.threads = thread_count(threads)
        self._values: dict[Digest, memoryview] = {}

    def add(self, spec: TensorSpec, data: Buffer) -> Parameter:
        """Add a tensor, given by its little-endian bytes, which must not change afterwards."""
        digest = tensor_digest(spec, data, threads=self.threads)
        self.put([(spec, digest, data)])
        return Parameter(spec, digest)

    def put(
        self, items: Iterable[tuple[TensorSpec, Digest, Buffer]], hints: Mapping[Digest, object] | None = None
    ) -> int:
        """Add tensors; see ``Store.put``. Hints are ignored."""
        del hints
        for spec, digest, data in items:
            view = memoryview(data)
            self._values.setdefault(digest, view.cast("B") if spec.nbytes else memoryview(b""))
        return 0

    def begin_put(
        self, items: Iterable[tuple[TensorSpec, Digest, Buffer]], hints: Mapping[Digest, object] | None = None
    ) -> Callable[[], int]:
        """Add tensors; see ``TensorStore.begin_put``. Nothing is left to be done."""
        written = self.put(items, hints)
        return lambda: written

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the digests of the tensors that are not in memory."""
        return set(digests) - set(self._values)

    def read(self, digest: Digest, spec: TensorSpec) -> memoryview:
        """Return a tensor's bytes, which must not be changed.

        Raises:
            MissingError: It is not in memory.
        """
        if digest not in self._values:
            raise MissingError(f"tensor {digest} ({spec}) is not in memory")
        return self._values[digest]

    def read_aligned(  # noqa: PLR0913 - named
        self,
        groups: Groups,
        work: Work | None = None,
        *,
        verify: bool = True,
        span: int = 1,
        threads: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[DecodedPiece]:
        """Yield the same part of all tensors of a group at a time; see ``Store.read_aligned``.

        Raises:
            MissingError: A tensor is not in memory.
        """
        del verify  # the tensors were hashed when they were added, and do not change
        threads = threads or self.threads
        starts = [numbers or range(0, chunk_count(group[0][1]), span) for group in groups]
        jobs = ((n, number) for n, some in enumerate(starts) for number in some)

        def cut(job: tuple[int, int]) -> DecodedPiece:
            item, number = job
            ranges = [(digest, spec, *piece_range(spec, number, span)) for digest, spec in groups[item]]
            chunks = tuple(self.read(digest, spec)[start:end] for digest, spec, start, end in ranges)
            return worked(piece_at(item, groups[item][0][1], ranges[0][2], chunks), work)

        def size(job: tuple[int, int]) -> int:
            item, number = job
            return sum(end - start for start, end in (piece_range(spec, number, span) for _, spec in groups[item]))

        # Handing a piece over to a single thread takes longer than cutting it.
        nbytes = sum(spec.nbytes for group in groups for _, spec in group) if threads > 1 else 0
        with pool(threads, nbytes) as executor:
            pieces = map(cut, jobs) if executor is None else batched_map(executor, cut, jobs, window(threads), size)
            for item, group in enumerate(groups):
                for _ in starts[item]:
                    yield next(pieces)
                yield piece_at(item, group[0][1], group[0][1].nbytes)
