"""Tensors in memory, with what a merge asks of a store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MissingError
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.store.read_ahead import piece_range
from git_theta_ext.util.threads import ordered_map, thread_count, window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.read_ahead import Groups, Work


class MemoryStore:
    """Holds tensors by digest, as a store does, for as long as the process runs.

    Args:
        threads: For reading side by side; 0 for one each processor.
    """

    def __init__(self, threads: int = 0) -> None:
        self.threads = thread_count(threads)
        self._values: dict[Digest, memoryview] = {}

    def add(self, spec: TensorSpec, data: Buffer) -> Parameter:
        """Take over a tensor, as its little-endian bytes, which must not change any more."""
        digest = tensor_digest(spec, data, threads=self.threads)
        self.put([(spec, digest, data)])
        return Parameter(spec, digest)

    def put(
        self, items: Iterable[tuple[TensorSpec, Digest, Buffer]], hints: Mapping[Digest, object] | None = None
    ) -> int:
        """Take over tensors; see ``Store.put``. Hints make nothing smaller here."""
        del hints
        for spec, digest, data in items:
            view = memoryview(data)
            self._values.setdefault(digest, view.cast("B") if spec.nbytes else memoryview(b""))
        return 0

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the digests of what is not here."""
        return set(digests) - set(self._values)

    def read(self, digest: Digest, spec: TensorSpec) -> memoryview:
        """Return a tensor's bytes, which must not be changed.

        Raises:
            MissingError: It is not here.
        """
        if digest not in self._values:
            raise MissingError(f"tensor {digest} ({spec}) is not in memory")
        return self._values[digest]

    def side_by_side(
        self, groups: Groups, work: Work | None = None, *, verify: bool = True, span: int = 1, threads: int = 0
    ) -> Iterator[tuple[int, int, tuple[memoryview, ...], Any]]:
        """Yield the tensors of each group in step, piece by piece; see ``Store.side_by_side``.

        Raises:
            MissingError: A tensor is not here.
        """
        del verify  # nobody but us can have changed them
        threads = threads or self.threads
        jobs = ((n, number) for n, group in enumerate(groups) for number in range(0, chunk_count(group[0][1]), span))

        def first(spec: TensorSpec, number: int) -> int:
            return chunk_range(spec, number)[0] * 8 // spec.dtype.bits

        def cut(job: tuple[int, int]) -> tuple[tuple[memoryview, ...], Any]:
            item, number = job
            ranges = [(digest, spec, *piece_range(spec, number, span)) for digest, spec in groups[item]]
            chunks = tuple(self.read(digest, spec)[start:end] for digest, spec, start, end in ranges)
            return chunks, None if work is None else work(item, first(groups[item][0][1], number), chunks)

        with ThreadPoolExecutor(threads) as executor:
            done = ordered_map(executor, cut, jobs, window(threads))
            for item, group in enumerate(groups):
                for number in range(0, chunk_count(group[0][1]), span):
                    chunks, result = next(done)
                    yield item, first(group[0][1], number), chunks, result
                yield item, group[0][1].elements, (), None
