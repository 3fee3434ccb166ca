"""Encode stored tensors as deltas, and verify each delta in memory instead of reading it back from its pack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.checked import ChunkHasher
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.store.packs.reader import wrong_tensor
from git_theta_ext.store.packs.writer import NewBlob

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs, Decoder
    from git_theta_ext.store.deltas.encode import DeltaHint


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
    spec, parent = blobs[digest].entry.spec, blobs[hint.parent].entry.spec
    single = chunk_count(spec) == 1
    # Small tensors are compared at once: the state of a hash function is half as large as a tensor of four kilobytes.
    hashers = {} if single else {digest: ChunkHasher(spec), hint.parent: ChunkHasher(parent)}

    def read(name: Digest, kind: TensorSpec, number: int, nbytes: int) -> memoryview:
        data = memoryview(bytearray(nbytes))
        if nbytes:
            decoder.decode(blobs, name, number, data)
        if not single:
            hashers[name].add(number, data)
        elif tensor_digest(kind, data) != name:
            raise wrong_tensor(blobs[name].path.name, name)
        return data

    def encode(number: int) -> list[Buffer]:
        start, end = chunk_range(spec, number)
        base = read(hint.parent, parent, number, max(0, min(end, parent.nbytes) - start))
        data = read(digest, spec, number, end - start)
        chunk = Chunk(spec, start, (Base(parent, base),), hint.fit.params)
        pieces = encoding.encode(chunk, data)
        decoded = bytearray(end - start)
        encoding.decode(chunk, memoryview(b"".join(pieces)), memoryview(decoded))
        if decoded != data:  # a bytearray compares faster than a memoryview
            raise CorruptError(f"the encoding {hint.encoding} does not return tensor {digest}, which it encoded")
        return pieces

    def check() -> Digest:
        for name, hasher in hashers.items():
            if hasher.digest() != name:
                raise wrong_tensor(blobs[name].path.name, name)
        return digest

    proves = hint.parent, blobs[hint.parent].path.name
    return NewBlob(digest, spec, encode, hint.encoding, (hint.parent,), hint.fit.params, check, proves)
