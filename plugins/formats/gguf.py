"""GGUF files of llama.cpp, with their quantised blocks.

See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Quantised tensors consist of blocks, such as a scale and
32 integers. A block counts as one element of a type that is only bits, for example ``opaque272:Q8_0``. Reading takes at
most 16 times the header's size in memory, because every value that the header counts takes some of its bytes.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Layout, Literal, NotSplittable, Slice, TensorSpec, dtype, opaque

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.interfaces import Content, Segment

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_PAIRS_AT = 24
_BETWEEN = "bytes between the tensors"
_ALIGNMENT = b"general.alignment"
_DEFAULT_ALIGNMENT, _MOST_ALIGNMENT = 32, 1 << 16
_MOST_HEAD = 100_000_000
_MOST_TENSORS = 1 << 20
_MOST_DIMENSIONS = 4
_MOST_NESTED = 8
_STRING, _ARRAY, _U32 = 8, 9, 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""The size in bytes of a value by its type, except for strings and arrays."""

_PLAIN = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
_BLOCKS = {
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""The name, the number of elements and the size in bytes of a block, by the number of the type."""


class GgufFormat:
    """Finds tensors by the table after the key-value pairs."""

    name = "gguf"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with the magic number."""
        return data[: len(_MAGIC)] == _MAGIC

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors. Their shapes are reversed, so that the elements of the last dimension are contiguous.

        A tensor of an unknown type extends to the start of the next one.

        Raises:
            FormatError: The file contradicts itself or is truncated. The message names the tensor.
            NotSplittable: The file is big-endian, or of the first version.
        """
        head = _read_head(data)
        starts = sorted({tensor.offset for tensor in head.tensors} | {data.nbytes - head.start})
        return [_extent(tensor, head.start, starts, data.nbytes) for tensor in head.tensors]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> Layout | None:
        """Lay out other parameters: those of ``layout`` in its order, then new ones by name; key-value pairs are kept.

        Returns:
            A layout, or None if an element type or shape cannot be written in the table.
        """
        head = _head_of(layout)
        order = [name for name in layout.parameters if name in parameters]
        order += sorted(set(parameters) - set(order))
        rows: list[bytes] = []
        segments: list[Segment] = []
        at = 0
        for name in order:
            spec = parameters[name]
            written = _written(spec)
            if written is None:
                return None
            text = name.encode("utf-8", "surrogateescape")
            kind, dimensions = written
            rows.append(
                struct.pack("<Q", len(text))
                + text
                + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, at)
            )
            segments.append(Slice(name, spec))
            padding = -spec.nbytes % head.alignment
            segments += [Literal(bytes(padding))] * (padding > 0)
            at += spec.nbytes + padding
        table = _MAGIC + struct.pack("<IQQ", head.version, len(order), head.pairs) + head.content + b"".join(rows)
        return Layout((Literal(table + bytes(-len(table) % head.alignment)), *segments))

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the raw key-value pairs by key, and the bytes between the tensors that are not padding."""
        head = _head_of(layout)
        pairs: dict[str, bytes] = {}
        cursor = _Cursor(memoryview(head.content), 0)
        for _ in range(head.pairs):
            key = cursor.text().decode("utf-8", "surrogateescape")
            start = cursor.at
            cursor.pass_value(cursor.number("<I"))
            pairs[key] = head.content[start : cursor.at]
        between = b"".join(part.data for part in layout.segments[1:] if isinstance(part, Literal))
        return pairs | ({_BETWEEN: between} if between.strip(b"\0") else {})

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout with other pairs; None if tensors would move, or a key exists twice."""
        before = self.facts(layout)
        alignment = _ALIGNMENT.decode()
        head = _head_of(layout)
        first = layout.segments[0]
        assert isinstance(first, Literal)
        if any(facts.get(key) != before.get(key) for key in (_BETWEEN, alignment)) or head.pairs > len(
            before.keys() - {_BETWEEN}
        ):
            return None
        pairs = [(key.encode("utf-8", "surrogateescape"), value) for key, value in facts.items() if key != _BETWEEN]
        content = b"".join(struct.pack("<Q", len(key)) + key + value for key, value in pairs)
        rows = first.data[_PAIRS_AT + len(head.content) : head.table_end]
        table = _MAGIC + struct.pack("<IQQ", head.version, len(head.tensors), len(pairs)) + content + rows
        padded = table + bytes(-len(table) % head.alignment)
        return Layout((Literal(padded + first.data[head.start :]), *layout.segments[1:]))


FORMAT = GgufFormat()


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A row of the table. The offset is relative to the start of the data."""

    name: str
    dimensions: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class _Head:
    """The header before the data; ``content`` has the raw key-value pairs."""

    version: int
    pairs: int
    content: bytes
    alignment: int
    tensors: Sequence[_Tensor]
    table_end: int
    start: int


class _Cursor:
    """A reader of values, one after another, which never reads beyond the end."""

    def __init__(self, data: Content, at: int) -> None:
        self.data = data
        self.at = at

    def skip(self, nbytes: int) -> None:
        """Skip the next bytes."""
        if nbytes > self.data.nbytes - self.at:
            raise FormatError(f"{nbytes} bytes at {self.at} of {self.data.nbytes}; the file may be truncated")
        self.at += nbytes
        if self.at > _MOST_HEAD:
            raise FormatError(f"the header exceeds the limit of {_MOST_HEAD} bytes")

    def take(self, nbytes: int) -> memoryview:
        """Return the next bytes, and advance."""
        self.skip(nbytes)
        return self.data[self.at - nbytes : self.at]

    def number(self, kind: str) -> int:
        """Return the next number, given its ``struct`` format."""
        (value,) = struct.unpack(kind, self.take(struct.calcsize(kind)))
        return int(value)

    def text(self) -> bytes:
        """Return the next string."""
        return bytes(self.take(self.number("<Q")))

    def pass_value(self, kind: int, nested: int = 0) -> None:
        """Skip a value of a type."""
        if kind == _STRING:
            self.skip(self.number("<Q"))
        elif kind == _ARRAY:
            if nested == _MOST_NESTED:
                raise FormatError("arrays are nested too deeply")
            kind, count = self.number("<I"), self.number("<Q")
            if kind in _SIZES:
                self.skip(_SIZES[kind] * count)
                return
            for _ in range(count):  # each iteration consumes bytes, so the end of the file bounds it
                self.pass_value(kind, nested + 1)
        elif kind in _SIZES:
            self.skip(_SIZES[kind])
        else:
            raise FormatError(f"a value has the unknown type {kind}")


def _head_of(layout: Layout) -> _Head:
    first = layout.segments[0] if layout.segments else None
    return _read_head(memoryview(first.data if isinstance(first, Literal) else b""))


def _read_head(data: Content) -> _Head:
    cursor = _Cursor(data, len(_MAGIC))
    version = cursor.number("<I")
    if version not in _VERSIONS:
        if version & 0xFFFF == 0:
            raise NotSplittable("its numbers are big-endian")
        raise NotSplittable(f"version {version} of GGUF is unknown")
    count, pairs = cursor.number("<Q"), cursor.number("<Q")
    if count > _MOST_TENSORS:
        raise FormatError(f"{count} tensors exceed the limit of {_MOST_TENSORS}")
    begin, alignment = cursor.at, _DEFAULT_ALIGNMENT
    for _ in range(pairs):  # each iteration consumes bytes, so the end of the file bounds it
        key, kind = cursor.text(), cursor.number("<I")
        value = cursor.at
        cursor.pass_value(kind)
        if key == _ALIGNMENT and kind == _U32:
            alignment = int.from_bytes(data[value : cursor.at], "little")
    if not 1 <= alignment <= _MOST_ALIGNMENT:
        raise FormatError(f"an alignment of {alignment} bytes is not supported")
    content = bytes(data[begin : cursor.at])
    tensors = [_read_row(cursor) for _ in range(count)]
    start = cursor.at + -cursor.at % alignment
    # A file without tensors may end before the position where their data would begin.
    return _Head(version, pairs, content, alignment, tensors, cursor.at, min(start, data.nbytes))


def _read_row(cursor: _Cursor) -> _Tensor:
    name = cursor.text().decode("utf-8", "surrogateescape")
    rank = cursor.number("<I")
    if rank > _MOST_DIMENSIONS:
        raise FormatError(f"parameter {name!r} has {rank} dimensions, which exceed the limit of {_MOST_DIMENSIONS}")
    dimensions = struct.unpack(f"<{rank}Q", cursor.take(8 * rank))
    return _Tensor(name, dimensions, cursor.number("<I"), cursor.number("<Q"))


def _extent(tensor: _Tensor, start: int, starts: Sequence[int], nbytes: int) -> Extent:
    try:
        spec = _spec(tensor, starts)
    except FormatError as error:
        raise FormatError(f"parameter {tensor.name!r}: {error.message}") from error
    extent = Extent(tensor.name, spec, start + tensor.offset)
    if extent.end > nbytes:
        raise FormatError(
            f"parameter {tensor.name!r} is recorded at bytes {extent.offset} to {extent.end} of {nbytes}; "
            "the file may be truncated"
        )
    return extent


def _spec(tensor: _Tensor, starts: Sequence[int]) -> TensorSpec:
    shape = tensor.dimensions[::-1]
    if tensor.kind in _PLAIN:
        return TensorSpec(dtype(_PLAIN[tensor.kind]), shape)
    if tensor.kind in _BLOCKS:
        label, elements, nbytes = _BLOCKS[tensor.kind]
        if not shape or shape[-1] % elements:
            raise FormatError(f"{list(shape)} is not a shape of {label}, whose blocks have {elements} elements")
        return TensorSpec(opaque(8 * nbytes, label), (*shape[:-1], shape[-1] // elements))
    behind = len(starts) if 0 in shape else bisect_right(starts, tensor.offset)
    end = starts[behind] if behind < len(starts) else tensor.offset
    return TensorSpec(opaque(8, f"ggml{tensor.kind}"), (end - tensor.offset,))


def _written(spec: TensorSpec) -> tuple[int, tuple[int, ...]] | None:
    """Return an element type and a shape as written in the table, or None if they cannot be written."""
    for kind, dimensions in _spellings(spec):
        if len(dimensions) <= _MOST_DIMENSIONS:
            return kind, dimensions
    return None


def _spellings(spec: TensorSpec) -> Iterator[tuple[int, tuple[int, ...]]]:
    for kind, name in _PLAIN.items():
        if spec.dtype.name == name:
            yield kind, spec.shape[::-1]
    for kind, (label, elements, nbytes) in _BLOCKS.items():
        if spec.dtype.name == f"opaque{8 * nbytes}:{label}" and spec.shape:
            yield kind, (spec.shape[-1] * elements, *spec.shape[-2::-1])
