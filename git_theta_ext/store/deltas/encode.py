"""Encode tensors as deltas of others, and estimate how many bytes that takes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Base, Chunk, Fit
from git_theta_ext.model.tensor import Digest, tensor_digest
from git_theta_ext.records import NamedTuple
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.blobs import NewBlob, dense_blob
from git_theta_ext.store.packs.format import Entry, chunk_count, chunk_range, write_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Encoding, TensorSource
    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import TensorSpec

    OpenSource = Callable[[], TensorSource]

_SAMPLED_CHUNKS = 4
_SAMPLED_ELEMENTS = 1 << 16


class DeltaHint(NamedTuple):
    """How a tensor may be stored as a delta.

    Attributes:
        encoding: Name of the encoding.
        parent: Digest of the tensor that it is a delta of.
        parent_spec: Spec of the parent.
        fit: Parameters and factors of the encoding.
    """

    encoding: str
    parent: Digest
    parent_spec: TensorSpec
    fit: Fit = Fit()


class MemorySource:
    """A tensor in memory; see ``git_theta_ext.interfaces.TensorSource``. Safe to use from several threads.

    Args:
        spec: Element type and shape.
        data: Little-endian bytes of the tensor.
    """

    def __init__(self, spec: TensorSpec, data: Buffer) -> None:
        self.spec = spec
        self._data = memoryview(data).cast("B") if spec.nbytes else memoryview(b"")

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a range of its bytes without copying them."""
        return self._data[start:end]


def coded_blobs(
    digest: Digest, hint: DeltaHint, target: OpenSource, parent: OpenSource, bundle: Bundle | None = None
) -> list[NewBlob]:
    """Return the blobs that store a tensor as a delta: first those of its factors, then its own.

    Args:
        digest: Digest of the tensor.
        hint: How to encode it.
        target: Opens the tensor for reading; called for each chunk.
        parent: Opens the parent for reading; called for each chunk.
        bundle: The tensors that the blob consists of; None if it is one tensor.
    """
    encoding = find_encoding(hint.encoding)
    spec = target().spec
    factors = [(kind, tensor_digest(kind, data), data) for kind, data in hint.fit.tensors]

    def encode(number: int) -> list[Buffer]:
        start, end = chunk_range(spec, number)
        return encoding.encode(_chunk(encoding, hint, spec, (start, end), parent()), target().read(start, end))

    bases = (hint.parent, *(name for _, name, _ in factors))
    blob = NewBlob(digest, spec, encode, hint.encoding, bases, hint.fit.params, bundle=bundle)
    return [*(dense_blob(name, partial(MemorySource, kind, data)) for kind, name, data in factors), blob]


def estimate(hint: DeltaHint, target: TensorSource, parent: TensorSource) -> int:
    """Return about how many bytes a tensor takes as a delta, including its factors and its entry in the header."""
    encoding = find_encoding(hint.encoding)
    bases = (hint.parent,) * len(encoding.needs)
    total = _header_bytes(target.spec, hint.encoding, bases, hint.fit)
    total += _sampled(target, lambda part: _chunk(encoding, hint, target.spec, part, parent), encoding)
    return total + sum(dense_estimate(MemorySource(spec, data)) for spec, data in hint.fit.tensors)


def dense_estimate(target: TensorSource) -> int:
    """Return about how many bytes a tensor takes without a base, including its entry in the header."""
    total = _header_bytes(target.spec, "dense", (), Fit())
    return total + _sampled(target, lambda part: Chunk(target.spec, part[0]), find_encoding("dense"))


def _chunk(encoding: Encoding, hint: DeltaHint, spec: TensorSpec, part: tuple[int, int], parent: TensorSource) -> Chunk:
    first = parent.read(*part) if encoding.needs[0] == "range" else parent.read()
    factors = (Base(kind, memoryview(data).cast("B")) for kind, data in hint.fit.tensors)
    return Chunk(spec, part[0], (Base(parent.spec, first), *factors), hint.fit.params)


def _sampled(target: TensorSource, chunk: Callable[[tuple[int, int]], Chunk], encoding: Encoding) -> int:
    spec = target.spec
    count = chunk_count(spec)
    if not count:
        return 0
    numbers = sorted({at * (count - 1) // max(1, _SAMPLED_CHUNKS - 1) for at in range(_SAMPLED_CHUNKS)})
    room = max(1, spec.chunk_bytes * _SAMPLED_ELEMENTS // max(1, spec.chunk_bytes * 8 // spec.dtype.bits))
    read = coded = 0
    for number in numbers:
        start, end = chunk_range(spec, number)
        end = min(end, start + room)
        pieces = encoding.encode(chunk((start, end)), target.read(start, end))
        coded += sum(memoryview(piece).nbytes for piece in pieces)
        read += end - start
    return coded * spec.nbytes // read


def _header_bytes(spec: TensorSpec, encoding: str, bases: tuple[Digest, ...], fit: Fit) -> int:
    entry = Entry(Digest("0" * 64), spec, encoding, (0,) * chunk_count(spec), 0, bases, fit.params)
    return len(write_header([entry])) - len(write_header([]))
