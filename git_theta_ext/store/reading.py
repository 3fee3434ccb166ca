"""Read tensors and skeletons out of packs by digest, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.store.read_ahead import read_ahead
from git_theta_ext.store.runs import in_runs
from git_theta_ext.store.with_bundles import StoreWithBundles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.read_ahead import DecodedPiece, Groups, Work
    from git_theta_ext.store.runs import Place


class ReadableStore(StoreWithBundles):
    """Reads tensors and skeletons, whole or piece by piece; see ``Verifier`` for the arguments."""

    def read(self, digest: Digest, spec: TensorSpec) -> bytearray:
        """Return the bytes of a tensor or skeleton.

        Raises:
            MissingError: It is not in the store.
            CorruptError: The stored bytes do not match the digest.
        """
        data = bytearray()  # grows as bytes come: until then the size is only what a manifest claims
        for piece in self.read_ahead([(digest, spec)]):
            data += piece.data
        return data

    def stream(self, digest: Digest, spec: TensorSpec) -> Iterator[memoryview]:
        """Yield a tensor chunk by chunk. Its bytes are verified only when the last chunk was taken.

        Raises:
            MissingError: It is not in the store.
            CorruptError: After the last chunk: the stored bytes do not match the digest.
        """
        for piece in self.read_ahead([(digest, spec)]):
            yield piece.data

    def read_ahead(
        self, tensors: Sequence[tuple[Digest, TensorSpec]], work: Work | None = None
    ) -> Iterator[DecodedPiece]:
        """Decode tensors in threads and yield their chunks in order, each tensor verified after its last chunk.

        Args:
            tensors: Digest and spec of each.
            work: Called with each piece in the thread that decoded it, in any order.

        Yields:
            Pieces, in which a group is a tensor.

        Raises:
            MissingError: A tensor is not in the store. No tensor was decoded yet, unless another process removed its
                pack in the meantime.
            CorruptError: The stored bytes do not match a digest.
        """
        for piece in self.read_aligned([(tensor,) for tensor in tensors], work):
            if piece.chunks:
                yield piece

    def in_runs(self, places: Sequence[Place]) -> list[Place]:
        """Return the places of tensors, with one for each bundle whose tensors follow each other; see ``runs.in_runs``.

        If a tensor is not in the store, all places are as they were, so that reading them names it.

        Args:
            places: The places of the tensors, in the order of the file.

        Raises:
            CorruptError: A pack disagrees with the index.
            MissingError: A pack is gone.
        """
        stored = self.stored_as(place.digest for place in places)
        names = set(stored.values())
        bundles = names.difference(stored)
        if not bundles or not names <= self.locations(names).keys():
            return [*places]
        blobs = self.blobs(bundles)
        entries = [blobs[name].entry for name in bundles]
        return in_runs(places, [entry.bundle for entry in entries if entry.bundle is not None])

    def read_chunks(self, digest: Digest, spec: TensorSpec, numbers: Sequence[int]) -> Iterator[DecodedPiece]:
        """Decode some chunks of a tensor in threads, and of its bases only what these chunks need.

        The bytes are not compared with the digest, which is that of the whole tensor.

        Args:
            digest: Digest of the tensor.
            spec: Its element type and shape.
            numbers: Numbers of the chunks.

        Raises:
            MissingError: It is not in the store.
            CorruptError: The stored bytes cannot be decoded.
        """
        for piece in self._pieces([((digest, spec),)], numbers=numbers):
            if piece.chunks:
                yield piece

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
        """Decode the tensors of each group in threads, and yield the same part of all of them at a time.

        Args:
            groups: Digest and spec of each tensor. The tensors of a group have the same number of elements, of at most
                64 bits.
            work: Called with each piece in the thread that decoded it, in any order.
            verify: Whether to compare the tensors with their digests; not needed again right after that was done.
            span: Number of chunks in a piece.
            threads: Number of threads; 0 for the number of the store.
            numbers: First chunks of the pieces of each group; None for all. Parts of tensors are not verified.

        Yields:
            Pieces in order, and after each group one without bytes: then its tensors are verified.

        Raises:
            MissingError: As ``read_ahead``.
            CorruptError: As ``read_ahead``.
        """
        yield from self._pieces(groups, work, verify=verify, span=span, threads=threads, numbers=numbers)

    def _pieces(  # noqa: PLR0913 - named
        self,
        groups: Groups,
        work: Work | None = None,
        *,
        verify: bool = True,
        span: int = 1,
        threads: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[DecodedPiece]:
        blobs = self._blobs_of([tensor for group in groups for tensor in group])
        done = 0
        try:
            for piece in read_ahead(
                self.decoder,
                groups,
                blobs,
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
            self.doubt([digest for digest, _ in groups[done]], blobs)
            raise

    def _relocate(self, digest: Digest) -> Blobs:
        self.refresh()
        return self.blobs([digest])

    def _blobs_of(self, tensors: Sequence[tuple[Digest, TensorSpec]]) -> Blobs:
        blobs = self.blobs(digest for digest, _ in tensors)
        for digest, spec in tensors:
            path, entry = blobs[digest]
            if entry.spec != spec:
                raise CorruptError(f"pack {path.name} holds {digest} as {entry.spec}, not as {spec}")
        return blobs
