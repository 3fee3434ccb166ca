"""Blobs to be written to packs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.interfaces import Chunk
from git_theta_ext.model.tensor import Digest
from git_theta_ext.records import dataclass, field
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.format import WITHOUT_CHUNKS, Entry, chunk_count, chunk_range

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import TensorSource
    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import TensorSpec

UNNAMED = Digest("0" * 64)
"""The digest of a blob whose tensor was not read yet."""


@dataclass(frozen=True)
class NewBlob:
    """A tensor or skeleton to be written.

    Attributes:
        digest: Digest of the tensor, trusted unless there is a check; ``UNNAMED`` if only the check knows it.
        spec: Element type and shape.
        encode: Returns the payload of a chunk by its index, in pieces; called in threads.
        encoding: Name of the encoding.
        bases: Digests of the tensors that it is a delta of.
        params: Parameters of the encoding.
        check: Called when all chunks are encoded. It returns the digest of the encoded bytes, and raises an error if
            they are not the expected tensor.
        proves: Digest and pack of the base, if ``check`` has also decoded the chunks again, with bytes of the base that
            it compared with its digest. Then nothing has to be read back; the file is compared with what was written.
        bundle: The tensors that the blob consists of; None if it is one tensor.
    """

    digest: Digest
    spec: TensorSpec
    encode: Callable[[int], list[Buffer]]
    encoding: str = "dense"
    bases: tuple[Digest, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[], Digest] | None = None
    proves: tuple[Digest, str] | None = None
    bundle: Bundle | None = None

    @property
    def chunks(self) -> int:
        """Number of chunks that are stored."""
        return 0 if self.encoding in WITHOUT_CHUNKS else chunk_count(self.spec)

    def encoded(self) -> Digest:
        """Return the digest of the encoded bytes, after all chunks are encoded."""
        return self.digest if self.check is None else self.check()


def dense_blob(digest: Digest, target: Callable[[], TensorSource], bundle: Bundle | None = None) -> NewBlob:
    """Return a blob without a base.

    Args:
        digest: Digest of the tensor, trusted.
        target: Opens the tensor for reading; called for each chunk.
        bundle: The tensors that the blob consists of; None if it is one tensor.
    """
    encoding, spec = find_encoding("dense"), target().spec

    def encode(number: int) -> list[Buffer]:
        start, end = chunk_range(spec, number)
        return encoding.encode(Chunk(spec, start), target().read(start, end))

    return NewBlob(digest, spec, encode, bundle=bundle)


def empty_blob(entry: Entry) -> NewBlob:
    """Return the blob of a part or of a gathered bundle, which has no bytes of its own."""

    def encode(number: int) -> list[Buffer]:
        raise ValueError(f"{entry.digest} has no chunk {number}")

    return NewBlob(entry.digest, entry.spec, encode, entry.encoding, entry.bases, entry.params, bundle=entry.bundle)
