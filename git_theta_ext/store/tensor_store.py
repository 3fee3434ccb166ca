"""What merging needs of a store, whether its tensors are in packs or in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.encode import DeltaHint
    from git_theta_ext.store.read_ahead import DecodedPiece, Groups, Work


class TensorStore(Protocol):
    """Tensors by digest.

    Attributes:
        threads: Number of threads that decode and hash tensors.
    """

    threads: int

    def put(
        self, items: Sequence[tuple[TensorSpec, Digest, Buffer]], *, hints: Mapping[Digest, DeltaHint] | None = None
    ) -> int:
        """Store tensors, given by spec, digest and little-endian bytes, and return the number of bytes written.

        Args:
            items: The digests are trusted.
            hints: How some of the tensors may be stored as deltas.

        Raises:
            StoreError: The store cannot be written.
        """

    def begin_put(
        self, items: Sequence[tuple[TensorSpec, Digest, Buffer]], *, hints: Mapping[Digest, DeltaHint] | None = None
    ) -> Callable[[], int]:
        """Do the part of ``put`` that needs the bytes, and return a function that does the rest."""

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Protect tensors from garbage collection for now, and return the digests of those that are missing."""

    def read(self, digest: Digest, spec: TensorSpec) -> bytearray | memoryview:
        """Return the little-endian bytes of a tensor.

        Raises:
            MissingError: The tensor is not in the store.
            CorruptError: The stored bytes do not match the digest.
        """

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
