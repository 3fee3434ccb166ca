"""A tensor held as a difference from another: what it takes, and how many bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Base, Chunk, Fit
from git_theta_ext.model.tensor import Digest, tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.format import Entry, chunk_count, chunk_range, write_header
from git_theta_ext.store.packs.writer import NewBlob, dense_blob

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Encoding, TensorSource
    from git_theta_ext.model.tensor import TensorSpec

    OpenSource = Callable[[], TensorSource]

_SAMPLED_CHUNKS = 4
_SAMPLED_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class DeltaHint:
    """A way to hold a tensor.

    Attributes:
        encoding: Its name.
        parent: The tensor that it starts from.
        parent_spec: Of the parent.
        fit: What the encoding has to know.
    """

    encoding: str
    parent: Digest
    parent_spec: TensorSpec
    fit: Fit = field(default_factory=Fit)


class MemorySource:
    """A tensor in memory; see ``git_theta_ext.interfaces.TensorSource``. Safe to use from several threads.

    Args:
        spec: Element type and shape.
        data: Its little-endian bytes.
    """

    def __init__(self, spec: TensorSpec, data: Buffer) -> None:
        self.spec = spec
        self._data = memoryview(data).cast("B") if spec.nbytes else memoryview(b"")

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return some of its bytes, without copying."""
        return self._data[start:end]


def coded_blobs(digest: Digest, hint: DeltaHint, target: OpenSource, parent: OpenSource) -> list[NewBlob]:
    """Return what has to be written to hold a tensor in some way: the tensor's blob, and before it its factors.

    Args:
        digest: Of the tensor.
        hint: How it is held.
        target: Opens the tensor for reading; called for each chunk.
        parent: The same for its parent.
    """
    encoding = find_encoding(hint.encoding)
    spec = target().spec
    factors = [(kind, tensor_digest(kind, data), data) for kind, data in hint.fit.tensors]

    def encode(number: int) -> list[Buffer]:
        start, end = chunk_range(spec, number)
        return encoding.encode(_chunk(encoding, hint, spec, (start, end), parent()), target().read(start, end))

    bases = (hint.parent, *(name for _, name, _ in factors))
    blob = NewBlob(digest, spec, encode, hint.encoding, bases, hint.fit.params)
    return [*(dense_blob(name, partial(MemorySource, kind, data)) for kind, name, data in factors), blob]


def estimate(hint: DeltaHint, target: TensorSource, parent: TensorSource) -> int:
    """Return about how many bytes a tensor takes in some way, with its factors and its part of the pack's header."""
    encoding = find_encoding(hint.encoding)
    bases = (hint.parent,) * len(encoding.needs)
    total = _header_bytes(target.spec, hint.encoding, bases, hint.fit)
    total += _sampled(target, lambda part: _chunk(encoding, hint, target.spec, part, parent), encoding)
    return total + sum(dense_estimate(MemorySource(spec, data)) for spec, data in hint.fit.tensors)


def dense_estimate(target: TensorSource) -> int:
    """Return about how many bytes a tensor takes that leans on nothing, with its part of the pack's header."""
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
