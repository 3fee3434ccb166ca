"""Encode stored tensors as deltas, and verify each delta in memory instead of reading it back from its pack."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.deltas.decode import SMALL
from git_theta_ext.store.packs.blobs import NewBlob
from git_theta_ext.store.packs.checked import ChunkHasher
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.store.packs.reader import blob_digest, wrong_tensor

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs, Decoder
    from git_theta_ext.store.deltas.encode import DeltaHint

_local = threading.local()


def provable(blobs: Blobs, digest: Digest, hint: DeltaHint) -> bool:
    """Return whether a delta needs nothing but its parent, and encoding it reads the whole parent."""
    spec, parent = blobs[digest].entry.spec, hint.parent_spec
    alone = find_encoding(hint.encoding).needs == ("range",) and not hint.fit.params
    return alone and parent.dtype == spec.dtype and parent.nbytes <= spec.nbytes


def proven_blob(decoder: Decoder, blobs: Blobs, digest: Digest, hint: DeltaHint) -> NewBlob:
    """Return the blob of a delta for which ``provable`` is true.

    Each chunk is decoded again, from the bytes of the parent that it was encoded with. When all are encoded, the tensor
    and the parent are compared with their digests.

    Args:
        decoder: Decodes the tensor and its parent.
        blobs: Of both, and of all their bases.
        digest: Digest of the tensor.
        hint: How to encode it.
    """
    encoding = find_encoding(hint.encoding)
    target = _ComparedTensor(decoder, blobs, digest)
    parent = _ComparedTensor(decoder, blobs, hint.parent, shared=True)
    spec = target.spec

    def encode(number: int) -> list[Buffer]:
        chunk = Chunk(spec, chunk_range(spec, number)[0], (Base(parent.spec, parent.chunk(number)),), hint.fit.params)
        data = target.chunk(number)
        pieces = encoding.encode(chunk, data)
        payload, decoded = b"".join(pieces), _room(data.nbytes)
        encoding.decode(chunk, memoryview(payload), memoryview(decoded))
        if decoded != data:  # a bytearray compares faster than a memoryview
            raise CorruptError(f"the encoding {hint.encoding} does not return tensor {digest}, which it encoded")
        return [payload]

    def check() -> Digest:
        parent.check()
        target.check()
        return digest

    proves = hint.parent, blobs[hint.parent].path.name
    return NewBlob(
        digest, spec, encode, hint.encoding, (hint.parent,), hint.fit.params, check, proves, target.entry.bundle
    )


def _room(nbytes: int) -> bytearray:
    """Return memory of that size, which the same thread reuses as long as it asks for the same size."""
    if len(getattr(_local, "room", b"")) != nbytes:
        _local.room = bytearray(nbytes)
    room: bytearray = _local.room
    return room


class _ComparedTensor:
    """A stored tensor that is compared with its digest as it is read.

    Args:
        decoder: Decodes it.
        blobs: Of the tensor and all its bases.
        digest: Digest of the tensor.
        shared: Whether others are likely to be encoded with it, so that it is kept if it is small.
    """

    def __init__(self, decoder: Decoder, blobs: Blobs, digest: Digest, *, shared: bool = False) -> None:
        path, self.entry = blobs[digest]
        self.spec, self._pack = self.entry.spec, path.name
        self._shared = shared
        self._decoder = decoder
        self._blobs = blobs
        self._digest = digest
        # The state of a hash function is half as large as a tensor of four kilobytes.
        self._hasher = ChunkHasher(self.spec) if chunk_count(self.spec) > 1 else None

    def chunk(self, number: int) -> memoryview:
        """Return the bytes of a chunk; none after the last chunk.

        Raises:
            CorruptError: They cannot be decoded, or are a whole tensor that does not match its digest.
        """
        if number >= chunk_count(self.spec):
            return memoryview(b"")
        if (kept := self._decoder.small(self._digest, self._pack)) is not None:
            return kept
        if self._hasher is None and self.spec.nbytes > SMALL:
            # The next version is likely to become a delta of this one.
            return self._decoder.bundles.get((self._digest, self._pack), self.spec.nbytes, self._whole)
        start, end = chunk_range(self.spec, number)
        data = memoryview(bytearray(end - start))
        self._decoder.decode(self._blobs, self._digest, number, data)
        if self._hasher is not None:
            self._hasher.add(number, data)
            return data
        self._compare(blob_digest(self.entry, data))
        if self._shared:
            self._decoder.keep_small(self._digest, data, self._pack)
        return data

    def _whole(self) -> memoryview:
        data = memoryview(bytearray(self.spec.nbytes))
        self._decoder.decode(self._blobs, self._digest, 0, data)
        self._compare(blob_digest(self.entry, data))
        return data.toreadonly()

    def check(self) -> None:
        """Compare the tensor with its digest, after all chunks were read.

        Raises:
            CorruptError: It does not match.
        """
        if self._hasher is not None:
            self._compare(self._hasher.digest())

    def _compare(self, actual: Digest | None) -> None:
        if actual != self._digest:
            raise wrong_tensor(self._pack, self._digest)
