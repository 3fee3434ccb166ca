"""The store of a job: reads the blobs that it was given, without an index, and writes packs into a work area."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.store.bundled import bundle_blob, bundled
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.deltas.encode import MemorySource
from git_theta_ext.store.packs.blobs import dense_blob
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.packs.reader import PackReader
from git_theta_ext.store.packs.writer import PackWriter, grouped
from git_theta_ext.store.read_ahead import read_ahead
from git_theta_ext.store.store import Store
from git_theta_ext.util.files import total_bytes
from git_theta_ext.util.threads import no_progress, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.deltas.encode import DeltaHint
    from git_theta_ext.store.packs.blobs import NewBlob
    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.read_ahead import DecodedPiece, Groups, Work


class JobStore:
    """Reads tensors from given blobs; see ``TensorStore``.

    Args:
        blobs: The blobs of the tensors and of all their bases.
        roots: Roots of the stores that the blobs are in. They are searched if another process has moved a tensor.
        area: Where packs are written.
        threads: Number of threads that decode and hash.

    Attributes:
        blobs: As given.
        area: As given.
        decoder: Decodes them.
        packs: Names of the packs that were written to the area.
        doubted: Digests of tensors of which a stored chunk was damaged.
    """

    def __init__(self, blobs: Blobs, roots: Sequence[Path], area: Path, threads: int = 1) -> None:
        self.threads = threads
        self.packs: list[str] = []
        self.doubted: set[Digest] = set()
        self.blobs = blobs
        self._roots = roots
        self.area = area
        self.decoder = Decoder(PackReader())

    def put(
        self, items: Sequence[tuple[TensorSpec, Digest, Buffer]], *, hints: Mapping[Digest, DeltaHint] | None = None
    ) -> int:
        """Write packs of tensors; see ``TensorStore.put``. Hints are ignored."""
        del hints
        bundles, alone = bundled(items)
        blobs = [*map(bundle_blob, bundles)]
        blobs += [dense_blob(digest, partial(MemorySource, spec, data)) for spec, digest, data in alone]
        return total_bytes(pack_path(self.area, name) for name, _ in self.write(grouped(blobs)))

    def begin_put(
        self, items: Sequence[tuple[TensorSpec, Digest, Buffer]], *, hints: Mapping[Digest, DeltaHint] | None = None
    ) -> Callable[[], int]:
        """Write packs of tensors; see ``TensorStore.begin_put``. Nothing is left to be done."""
        written = self.put(items, hints=hints)
        return lambda: written

    def write(self, packs: Sequence[Sequence[NewBlob]]) -> list[tuple[str, tuple[Entry, ...]]]:
        """Write packs of blobs, and return the name and the entries of each. They are durable on return."""
        made = PackWriter(self.area, None, window(1)).write(packs, no_progress)
        self.packs += [name for name, _ in made]
        return made

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the digests of the tensors that were not given."""
        return set(digests) - set(self.blobs)

    def read(self, digest: Digest, spec: TensorSpec) -> bytearray:
        """Return the bytes of a tensor; see ``TensorStore.read``."""
        data = bytearray()
        for piece in self.read_aligned([((digest, spec),)]):
            if piece.chunks:
                data += piece.data
        return data

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
        """Yield the same part of all tensors of a group at a time; see ``Store.read_aligned``."""
        for digest, spec in (tensor for group in groups for tensor in group):
            if digest not in self.blobs:
                raise MissingError(f"tensor {digest} was not given to this job")
            if (entry := self.blobs[digest].entry).spec != spec:
                raise CorruptError(f"a pack holds {digest} as {entry.spec}, not as {spec}")
        done = 0
        try:
            for piece in read_ahead(
                self.decoder,
                groups,
                self.blobs,
                work,
                threads=threads or self.threads,
                span=span,
                verify=verify,
                relocate=self._relocate,
                numbers=numbers,
            ):
                yield piece
                done += not piece.chunks
        except CorruptError:
            self.doubted.update(digest for digest, _ in groups[done])
            raise

    def _relocate(self, digest: Digest) -> Blobs:
        with tempfile.TemporaryDirectory() as folder:  # an index of its own: those of SQLite cannot be shared
            store = Store(Path(folder), self._roots, self.threads)
            try:
                store.refresh()
                return store.blobs([digest])
            finally:
                store.close()
