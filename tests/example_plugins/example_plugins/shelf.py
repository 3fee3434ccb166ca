"""Shelves: a list of float32 vectors, of which some are in the file, and some in other files of its directory."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, ExternalTensor, Layout, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Content

MAGIC = b"SHELF1"
COUNT = struct.Struct("<H")  # vectors
HEAD = struct.Struct("<?HHQQ")  # whether it is in reverse order, bytes of the name and of the file, elements, offset


@dataclass(frozen=True)
class Vector:
    """An entry of the list; a vector without a file is in the shelf itself, after the list."""

    name: str
    file: str
    spec: TensorSpec
    offset: int
    reverse: bool


class Shelf:
    """The format, which is also a ``PartialFormat`` and an ``ExternalDataFormat``, as it has their functions."""

    name = "shelf"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Look at the first bytes only, as this is called for every file."""
        return data[: len(MAGIC)] == MAGIC

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors in the file itself."""
        vectors = _read(data)
        extents = [Extent(vector.name, vector.spec, vector.offset) for vector in vectors if not vector.file]
        if any(extent.end > data.nbytes for extent in extents):
            raise FormatError("the file is truncated")
        return extents

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: a merge in which both sides add tensors is a conflict."""

    def facts(self, layout: Layout) -> Mapping[str, bytes]:
        """Return the list, so that versions with other lists are not mixed."""
        return {"list": _head(layout)}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout if it has these facts."""
        return layout if facts == self.facts(layout) else None

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return which tensors are not exported in other formats, and why. The reason follows the name."""
        vectors = _read(memoryview(_head(layout)))
        return {vector.name: "is in reverse order" for vector in vectors if vector.reverse and not vector.file}

    def external_tensors(self, layout: Layout) -> list[ExternalTensor]:
        """Return the tensors in other files. Those files are stored in chunks, and know nothing of this one."""
        vectors = _read(memoryview(_head(layout)))
        return [ExternalTensor(v.name, v.spec, v.file, v.offset) for v in vectors if v.file]


FORMAT = Shelf()


def _head(layout: Layout) -> bytes:
    """Return the list, which is the literal bytes before the first tensor."""
    return layout.segments[0].data


def _read(data: Content) -> list[Vector]:
    """Read the list. Nothing in the file can be trusted."""
    at = len(MAGIC) + COUNT.size
    if data.nbytes < at or data[: len(MAGIC)] != MAGIC:
        raise FormatError("the file does not begin with a list")
    rows = []
    for _ in range(COUNT.unpack(data[len(MAGIC) : at])[0]):
        if data.nbytes < at + HEAD.size:
            raise FormatError("the list is truncated")
        reverse, named, filed, elements, offset = HEAD.unpack(data[at : at + HEAD.size])
        at += HEAD.size
        try:
            name, file = str(data[at : at + named], "utf-8"), str(data[at + named : at + named + filed], "utf-8")
        except UnicodeDecodeError as error:
            raise FormatError("a name is not UTF-8") from error
        if "/" in file:
            raise FormatError(f"parameter {name!r} is in another directory")
        at += named + filed
        rows.append((name, file, TensorSpec.of("F32", (elements,)), offset, reverse))
    if len({row[0] for row in rows}) < len(rows) or at > data.nbytes:
        raise FormatError("a name is there twice, or the list is truncated")
    vectors, end = [], at
    for name, file, spec, offset, reverse in rows:
        vectors.append(Vector(name, file, spec, offset if file else end, reverse))
        end += 0 if file else spec.nbytes
    return vectors
