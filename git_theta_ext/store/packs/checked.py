"""Encode tensors whose digests are unknown or not trusted, and hash the bytes that are encoded."""

from __future__ import annotations

from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Chunk
from git_theta_ext.model.tensor import TensorHasher, tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.blobs import UNNAMED, NewBlob
from git_theta_ext.store.packs.format import chunk_count, chunk_range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.interfaces import TensorSource
    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.util.file_bytes import FileBytes


class FileSource:
    """A tensor in a file; see ``git_theta_ext.interfaces.TensorSource``. Safe to use from several threads.

    Other programs may write to the file, so every read copies, and two reads may differ.

    Args:
        spec: Element type and shape.
        file: The file.
        offset: Offset of the tensor's first byte in the file.
        name: Name of the parameter, for messages.
    """

    def __init__(self, spec: TensorSpec, file: FileBytes, offset: int, name: str) -> None:
        self.spec = spec
        self._file = file
        self._offset = offset
        self._name = name

    @property
    def origin(self) -> str:
        """The file and the parameter, for messages."""
        return f"{self._file.path}: parameter {self._name!r}"

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a copy of a range of its bytes.

        Raises:
            ChangedError: The file was truncated.
            StoreError: The file cannot be read.
        """
        end = self.spec.nbytes if end is None else min(end, self.spec.nbytes)
        return self._file.read(self._offset + start, self._offset + max(start, end))

    def follows(self, other: FileSource) -> bool:
        """Return whether it begins where another tensor of the same file ends."""
        return self._file is other._file and self._offset == other._offset + other.spec.nbytes

    def until(self, last: FileSource) -> memoryview:
        """Return a copy of the bytes of this tensor and of all up to another one that comes later in the same file.

        Raises:
            ChangedError: The file was truncated.
            StoreError: The file cannot be read.
        """
        return self._file.read(self._offset, last._offset + last.spec.nbytes)


def read_together(values: Sequence[Buffer | FileSource]) -> memoryview:
    """Return the bytes of some tensors, one after another; with one read if they are neighbours in a file."""
    first, last = values[0], values[-1]
    if isinstance(first, FileSource) and isinstance(last, FileSource) and _are_neighbours(values):
        return first.until(last)
    return memoryview(b"".join([value.read() if isinstance(value, FileSource) else value for value in values]))


def _are_neighbours(values: Sequence[Buffer | FileSource]) -> bool:
    return all(
        isinstance(one, FileSource) and isinstance(other, FileSource) and other.follows(one)
        for one, other in pairwise(values)
    )


def hashed_blob(target: Callable[[], TensorSource]) -> NewBlob:
    """Return a blob without a base, whose digest is that of the encoded bytes.

    Args:
        target: Opens the tensor for reading; called once for each chunk.
    """
    spec = target().spec
    hasher = _hasher(spec)
    return NewBlob(UNNAMED, spec, _hashing(spec, target, hasher), check=hasher.digest)


def checked_blob(
    digest: Digest,
    target: Callable[[], TensorSource],
    wrong: Callable[[], ThetaError],
    bundle: Bundle | None = None,
) -> NewBlob:
    """Return a blob without a base that is written only if the encoded bytes match a digest.

    Args:
        digest: Digest of the tensor.
        target: Opens the tensor for reading; called once for each chunk.
        wrong: Returns the error to raise if the bytes do not match.
        bundle: The tensors that the blob consists of; None if it is one tensor.
    """
    spec = target().spec
    hasher = _hasher(spec) if bundle is None else BundleHasher(bundle)

    def check() -> Digest:
        if hasher.digest() != digest:
            raise wrong()
        return digest

    return NewBlob(digest, spec, _hashing(spec, target, hasher), check=check, bundle=bundle)


def _hashing(
    spec: TensorSpec, target: Callable[[], TensorSource], hasher: ChunkHasher | WholeHasher | BundleHasher
) -> Callable[[int], list[Buffer]]:
    """Return a function that encodes a chunk and hashes the bytes that it encodes."""
    encoding = find_encoding("dense")

    def encode(number: int) -> list[Buffer]:
        start, end = chunk_range(spec, number)
        data = target().read(start, end)
        hasher.add(number, data)
        return encoding.encode(Chunk(spec, start), data)

    return encode


def _hasher(spec: TensorSpec) -> ChunkHasher | WholeHasher:
    return WholeHasher(spec) if chunk_count(spec) == 1 else ChunkHasher(spec)


class WholeHasher:
    """Does as ``ChunkHasher`` for a tensor of one chunk, of which a model may have very many.

    Args:
        spec: Element type and shape.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._digest: Digest | None = None

    def add(self, number: int, data: memoryview) -> None:
        """Add the chunk."""
        del number
        self._digest = tensor_digest(self._spec, data)

    def digest(self) -> Digest:
        """Return the digest, after the chunk was added."""
        if self._digest is None:
            raise ValueError("no chunk was added")
        return self._digest


class BundleHasher:
    """Does as ``ChunkHasher`` for a bundle, whose digest is that of its tensors' digests.

    Args:
        bundle: The tensors that it should have.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._digest = UNNAMED

    def add(self, number: int, data: memoryview) -> None:
        """Add the only chunk."""
        from git_theta_ext.coding.tensor_digests import wrong_member  # filters without bundles start without it

        del number
        self._digest = self._bundle.digest if wrong_member(self._bundle, data) is None else UNNAMED

    def digest(self) -> Digest:
        """Return the digest of the bundle if its bytes are those of its tensors; otherwise one that no tensor has."""
        return self._digest


class ChunkHasher:
    """Computes a tensor's digest from its chunks, which threads add in any order.

    A thread that adds the next chunk in order hashes it at once, while it is still in the CPU's cache.

    Args:
        spec: Element type and shape.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._hasher = TensorHasher(spec)
        self._lock = Lock()
        self._waiting: dict[int, memoryview] = {}
        self._next = 0
        self._busy = False

    def add(self, number: int, data: memoryview) -> None:
        """Add a chunk. The thread that adds the last missing chunk before it also hashes it."""
        with self._lock:
            self._waiting[number] = data
            if self._busy:
                return
            self._busy = True
        while (ready := self._take()) is not None:
            self._hasher.update(ready)

    def _take(self) -> memoryview | None:
        with self._lock:
            ready = self._waiting.pop(self._next, None)
            self._next += ready is not None
            self._busy = ready is not None
            return ready

    def digest(self) -> Digest:
        """Return the digest, after all chunks were added."""
        return self._hasher.digest()
