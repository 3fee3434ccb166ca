"""The type, the shape and the digest of a tensor, as a manifest has them."""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, NewType

from blake3 import blake3

from git_theta_ext.errors import FormatError
from git_theta_ext.model.dtypes import SKELETON, Dtype, dtype
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.text import shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

Digest = NewType("Digest", str)
"""A BLAKE3-256 hash as 64 lower-case hexadecimal digits."""

DIGEST_LENGTH = 64
"""Characters of a digest."""

MAX_DIMENSIONS = 64
MAX_BYTES = 1 << 50
_CHUNK_ELEMENTS = 1 << 19
_CHUNK_BYTES = 1 << 22
_WIDEST_NUMBER = 64
SHARED_HASH = 1 << 27
"""Bytes of a tensor from which on several threads hash it. To start them takes as long as hashing 500 kB."""
_TINY = 1 << 14
"""Bytes of a tensor that are copied in less time than the state of a hash function is."""
_DIGEST = re.compile(f"[0-9a-f]{{{DIGEST_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Element type and shape of a tensor, and its sizes.

    Attributes:
        dtype: Element type.
        shape: Size of each dimension.
        elements: Number of elements; 1 for a 0-dimensional tensor.
        nbytes: Size in bytes.
        chunk_bytes: Size in bytes of every chunk except the last: 2^19 elements, or 4 MiB of very wide elements. It is
            always a whole number of elements and of bytes.
        hashed: What is hashed before a tensor's bytes; nothing for skeletons.

    Raises:
        FormatError: The shape is negative, too large or has too many dimensions, or the elements do not fill whole
            bytes.
    """

    dtype: Dtype
    shape: tuple[int, ...]
    # Computed once: a model of many small tensors asks for them more often than for anything else.
    elements: int = field(init=False, repr=False, compare=False)
    nbytes: int = field(init=False, repr=False, compare=False)
    chunk_bytes: int = field(init=False, repr=False, compare=False)
    hashed: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.shape) > MAX_DIMENSIONS:
            raise FormatError(f"{len(self.shape)} dimensions exceed the limit of {MAX_DIMENSIONS}")
        if any(n < 0 for n in self.shape):
            raise FormatError(f"a tensor of negative size {list(self.shape)}")
        elements = prod(self.shape)
        bits = elements * self.dtype.bits
        # If a dimension is zero, the others could have any size, including one that cannot be written.
        if bits > MAX_BYTES * 8 or (not bits and max(self.shape) > MAX_BYTES * 8):
            raise FormatError(f"a tensor of impossible size {list(self.shape)}")
        if bits % 8:
            raise FormatError(f"{elements} elements of {self.dtype.name} do not fill a whole number of bytes")
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "nbytes", bits // 8)
        object.__setattr__(self, "chunk_bytes", _chunk_bytes(self.dtype.bits))
        hashed = b"" if self.dtype is SKELETON else f"git-theta tensor 1\n{self}\n".encode()
        object.__setattr__(self, "hashed", hashed)

    @classmethod
    def of(cls, name: str, shape: Iterable[int]) -> TensorSpec:
        """Return the spec for an element type's name. Equal ones are mostly the same object.

        Raises:
            FormatError: The spec is not valid, or the name is unknown.
        """
        return _spec(name, tuple(map(int, shape)))  # True is not another 1 to a cache

    def __str__(self) -> str:
        return f"{self.dtype.name} [{','.join(map(str, self.shape))}]"


@lru_cache(1 << 12)
def _spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(dtype(name), shape)


def _chunk_bytes(bits: int) -> int:
    if bits <= _WIDEST_NUMBER:
        return _CHUNK_ELEMENTS * bits // 8
    group = bits  # eight elements, in bytes
    return max(1, _CHUNK_BYTES // group) * group


def skeleton_spec(nbytes: int) -> TensorSpec:
    """Return the spec under which a skeleton of that many bytes is stored."""
    return TensorSpec(SKELETON, (nbytes,))


class TensorHasher:
    """Compute the digest of a tensor piece by piece.

    The digest covers the element type, the shape and the little-endian bytes. The digest of a skeleton covers only its
    bytes.

    Args:
        spec: Element type and shape.
        threads: Number of threads that hash a large tensor.
    """

    def __init__(self, spec: TensorSpec, *, threads: int = 1) -> None:
        self._blake3 = blake3(spec.hashed, max_threads=threads if spec.nbytes >= SHARED_HASH else 1)

    def update(self, data: Buffer) -> None:
        """Add the next bytes."""
        view = memoryview(data)
        if view.nbytes:  # an empty view cannot be cast
            self._blake3.update(view.cast("B"))

    def digest(self) -> Digest:
        """Return the digest of all bytes added so far."""
        return Digest(self._blake3.hexdigest())


def tensor_digest(spec: TensorSpec, data: Buffer, *, threads: int = 1) -> Digest:
    """Return the digest of a whole tensor.

    Args:
        spec: Element type and shape.
        data: Its little-endian bytes, ``spec.nbytes`` of them.
        threads: Number of threads that hash a large tensor.

    Raises:
        FormatError: The number of bytes does not match the spec.
    """
    if memoryview(data).nbytes != spec.nbytes:
        raise FormatError(f"{memoryview(data).nbytes} bytes for a tensor {spec}, which has {spec.nbytes}")
    if 0 < spec.nbytes <= _TINY:  # a third of the time of two updates
        return Digest(blake3(spec.hashed + memoryview(data).cast("B")).hexdigest())
    hasher = TensorHasher(spec, threads=threads)
    hasher.update(data)
    return hasher.digest()


def digest_of(raw: bytes) -> Digest:
    """Return the digest of 32 bytes as text. Equal ones are the same object.

    Finding a digest in a set or a dictionary takes several times as long if what is there is another object, which is
    elsewhere in memory: there are many digests, and they are looked up more often than anything else.
    """
    return Digest(shared(raw.hex()))


def is_digest(text: str) -> bool:
    """Return whether a text is a digest in the form of manifests."""
    return _DIGEST.fullmatch(text) is not None
