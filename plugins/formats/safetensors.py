"""Files of safetensors (https://github.com/huggingface/safetensors).

Gaps and tensors that are unaligned or out of order are accepted although the reference implementation does not write
them, because they are restored exactly. Files that contradict themselves are rejected. Reading a header takes at most
24 times its size in memory, and linear time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Dtype, Extent, Layout, Literal, Slice, TensorSpec, dtype, opaque, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.interfaces import Content

_LENGTH = 8
_MAX_HEADER = 100_000_000  # the limit of the reference implementation
_METADATA = "__metadata__"
_BETWEEN = "bytes between the tensors"


class SafetensorsFormat:
    """Finds tensors by the header's offsets."""

    name = "safetensors"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether a plausible length and the header's brace begin the file."""
        if data.nbytes <= _LENGTH:
            return False
        return 1 < int.from_bytes(data[:_LENGTH], "little") <= _MAX_HEADER and data[_LENGTH] == ord("{")

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors.

        Raises:
            FormatError: The header is invalid, or contradicts itself or the file. The message names the parameter.
        """
        header, start = _read_header(data)
        return [_extent(name, entry, start, data.nbytes) for name, entry in header.items() if name != _METADATA]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> Layout | None:
        """Lay out other parameters: those of ``layout`` in its order, then new ones by name; metadata is kept.

        Returns:
            A layout without gaps, or None if an element type cannot be named in a header.
        """
        header = _header_of(layout)
        order = [name for name in layout.parameters if name in parameters]
        order += sorted(set(parameters) - set(order))
        if not _aligned(parameters[name] for name in order):
            order.sort(key=lambda name: -parameters[name].dtype.bits)
        entries: dict[str, Any] = {_METADATA: header[_METADATA]} if _METADATA in header else {}
        at = 0
        for name in order:
            spec = parameters[name]
            kind = _written(spec.dtype)
            if kind is None or name == _METADATA:
                return None
            entries[name] = {"dtype": kind, "shape": list(spec.shape), "data_offsets": [at, at + spec.nbytes]}
            at += spec.nbytes
        literal = _written_header(entries)
        return None if literal is None else Layout((literal, *(Slice(name, parameters[name]) for name in order)))

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the metadata by key, and the bytes between the tensors."""
        metadata = _header_of(layout).get(_METADATA, {})
        values = {key: json.dumps(value).encode() for key, value in metadata.items()}
        between = b"".join(part.data for part in layout.segments[1:] if isinstance(part, Literal))
        return values | ({_BETWEEN: between} if between.strip(b"\0") else {})

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout with other metadata; None if bytes between the tensors would change."""
        if facts.get(_BETWEEN) != self.facts(layout).get(_BETWEEN):
            return None
        header = _header_of(layout)
        header.pop(_METADATA, None)
        metadata = {key: json.loads(value) for key, value in facts.items() if key != _BETWEEN}
        literal = _written_header(({_METADATA: metadata} if metadata else {}) | header)
        return None if literal is None else Layout((literal, *layout.segments[1:]))


FORMAT = SafetensorsFormat()


def _header_of(layout: Layout) -> dict[str, Any]:
    first = layout.segments[0] if layout.segments else None
    return _read_header(memoryview(first.data if isinstance(first, Literal) else b""))[0]


def _written_header(entries: Mapping[str, Any]) -> Literal | None:
    """Return a header with its length; None if it is too long."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Literal(len(text).to_bytes(_LENGTH, "little") + text) if len(text) <= _MAX_HEADER else None


def _read_header(data: Content) -> tuple[dict[str, Any], int]:
    """Return the header and the offset of the first byte after it."""
    length = int.from_bytes(data[:_LENGTH], "little")
    start = _LENGTH + length
    if data.nbytes < _LENGTH or start > data.nbytes:
        raise FormatError(f"a header of {length} bytes in a file of {data.nbytes} bytes; the file may be truncated")
    if length > _MAX_HEADER:
        raise FormatError(f"a header of {length} bytes exceeds the limit of {_MAX_HEADER}")
    try:
        header = read_json(str(data[_LENGTH:start], "utf-8"), _object)
    except ValueError as error:
        raise FormatError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get(_METADATA, {}), dict):
        raise FormatError("the header or its metadata is not a JSON object")
    return header, start


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise FormatError(f"parameter {name!r} is in the header twice")
            seen.add(name)
    return values


def _extent(name: str, entry: object, start: int, nbytes: int) -> Extent:
    match entry:
        case {"dtype": str() as kind, "shape": list() as shape, "data_offsets": [int() as begin, int() as end]}:
            pass
        case _:
            raise FormatError(f"parameter {name!r} lacks a dtype, a shape or two data_offsets")
    if any(type(n) is not int for n in (*shape, begin, end)):
        raise FormatError(f"parameter {name!r} has a shape or data_offsets that are not integers")
    if not 0 <= begin <= end <= nbytes - start:
        raise FormatError(
            f"parameter {name!r} is recorded at bytes {begin} to {end} of {nbytes - start}; the file may be truncated"
        )
    try:
        spec = TensorSpec.of(_dtype(kind, shape, end - begin).name, shape)
    except FormatError as error:
        raise FormatError(f"parameter {name!r}: {error.message}") from error
    if spec.nbytes != end - begin:
        raise FormatError(
            f"parameter {name!r}: {spec} has {spec.nbytes} bytes, but its data_offsets span {end - begin}"
        )
    return Extent(name, spec, start + begin)


def _dtype(kind: str, shape: list[int], nbytes: int) -> Dtype:
    try:
        return dtype(kind)
    except FormatError:
        # The type is newer than the table of types. Its width follows from the size, which is enough to store it.
        elements = TensorSpec(dtype("U8"), tuple(shape)).elements
        bits, rest = divmod(nbytes * 8, elements) if elements else (8, 0)
        if rest or not bits:
            raise
        return opaque(bits, kind)


def _written(kind: Dtype) -> str | None:
    """Return the name of an element type in headers."""
    return kind.name if kind.kind != "opaque" else kind.name.partition(":")[2] or None


def _aligned(specs: Iterable[TensorSpec]) -> bool:
    """Return whether each tensor starts at a multiple of its element size if tensors follow each other without gaps."""
    at = 0
    for spec in specs:
        if at * 8 % spec.dtype.bits:
            return False
        at += spec.nbytes
    return True
