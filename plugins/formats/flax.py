"""Flax's MessagePack files: `.msgpack`, as `flax.serialization.to_bytes` writes them.

See https://flax.readthedocs.io/en/latest/api_reference/flax.serialization.html. A file is a mapping of mappings whose
leaves are arrays: extension type 1 (3 for scalars) with shape, name of the element type and bytes. An array of more
than 1 GiB is a mapping of flat chunks, each of which is a tensor here. Reading takes at most 16 times the file's size
in memory and stops after a million values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Layout, Literal, NotSplittable

from ._literal_content import LiteralContent
from ._messagepack import ARRAY, BINARY, EXTENSION, INTEGER, MAPPING, Reader, Token
from ._numpy_names import spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, TensorSpec

_ARRAYS = (1, 3)
_DEEPEST = 64
_LONGEST_NAMES = 1 << 16
_MOST_DIMENSIONS = 32
_PARTS = 3


class FlaxFormat:
    """Finds the arrays among the values of a MessagePack file."""

    name = "flax"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with a mapping by name in which there is an array."""
        reader = Reader(data)
        try:
            if reader.next().kind != MAPPING:
                return False
            reader.text()
            return any(isinstance(found, Extent) for found in _leaves(data))
        except (FormatError, NotSplittable):
            return False

    def parse(self, data: Content) -> list[Extent]:
        """Find the arrays. Their names are the keys on the way to them, joined by slashes.

        Raises:
            FormatError: The file is truncated or damaged, or two arrays have the same name.
            NotSplittable: The file has too many values or names.
        """
        return [found for found in _leaves(data) if isinstance(found, Extent)]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the mappings would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the values that are no arrays, as MessagePack, under their names."""
        data = LiteralContent(layout)
        return {name: bytes(data[start:end]) for name, start, end in _others(layout)}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout with other values; None if a name is new or is missing."""
        places = {name: (start, end) for name, start, end in _others(layout)}
        if places.keys() != facts.keys():
            return None
        at = {start: (end, facts[name]) for name, (start, end) in places.items()}
        return Layout(
            tuple(
                Literal(_replaced(segment.data, offset, at)) if isinstance(segment, Literal) else segment
                for offset, segment in layout.located()
            )
        )


FORMAT = FlaxFormat()


def _replaced(data: bytes, offset: int, values: Mapping[int, tuple[int, bytes]]) -> bytes:
    """Return literal bytes at an offset of a file with other values, each by its start: its end and its new bytes."""
    pieces, at = [], 0
    for start in sorted(start for start in values if offset <= start < offset + len(data)):
        end, value = values[start]
        pieces += [data[at : start - offset], value]
        at = end - offset
    return b"".join([*pieces, data[at:]])


def _others(layout: Layout) -> Iterator[tuple[str, int, int]]:
    """Yield the name, start and end of each value that is not an array."""
    for found in _leaves(LiteralContent(layout)):
        if not isinstance(found, Extent):
            yield found


def _leaves(data: Content) -> Iterator[Extent | tuple[str, int, int]]:
    """Yield the arrays, and the name, start and end of each other value, in the order of the file."""
    reader = Reader(data)
    budget = _LONGEST_NAMES + data.nbytes
    for found in _values(reader, reader.next(), "", 0):
        budget -= len(found.name if isinstance(found, Extent) else found[0])
        if budget < 0:
            raise NotSplittable("the names of its values are longer than the file")
        yield found
    if reader.at != data.nbytes:
        raise FormatError(f"{data.nbytes - reader.at} bytes follow the last value")


def _values(reader: Reader, token: Token, name: str, depth: int) -> Iterator[Extent | tuple[str, int, int]]:
    if depth > _DEEPEST:
        raise NotSplittable(f"values are nested more than {_DEEPEST} deep")
    if token.kind == MAPPING:
        for _ in range(token.count):  # each iteration consumes bytes, so the end of the file bounds it
            key = reader.key()
            yield from _values(reader, reader.next(), f"{name}/{key}" if depth else key, depth + 1)
    elif token.kind == ARRAY:
        for number in range(token.count):
            yield from _values(reader, reader.next(), f"{name}/{number}", depth + 1)
    elif _is_array(token):
        yield _array(name, reader, token)
    else:
        reader.skip(token)
        yield name, token.start, reader.at


def _is_array(token: Token) -> bool:
    return token.kind == EXTENSION and token.code in _ARRAYS


def _array(name: str, reader: Reader, token: Token) -> Extent:
    """Return the position of the array whose head was read."""
    try:
        spec = _spec(reader, reader.at + token.count)
    except FormatError as error:
        raise FormatError(f"parameter {name!r}: {error.message}") from error
    extent = Extent(name, spec, reader.at)
    reader.advance(spec.nbytes)
    return extent


def _spec(reader: Reader, end: int) -> TensorSpec:
    """Read the spec of an array up to the first byte of its content, which ends with the value."""
    rows, shape = reader.next(), reader.next()
    if rows.kind != ARRAY or rows.count != _PARTS or shape.kind != ARRAY or shape.count > _MOST_DIMENSIONS:
        raise FormatError("it is not a shape, an element type and content")
    sizes = [reader.next() for _ in range(shape.count)]
    if any(size.kind != INTEGER for size in sizes):
        raise FormatError("a size is not an integer")
    kind, content = reader.text(), reader.next()
    if content.kind != BINARY or reader.at + content.count != end:
        raise FormatError(f"its content does not end at byte {end}")
    return spec_of(kind, tuple(size.count for size in sizes), content.count)
