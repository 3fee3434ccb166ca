"""Bags: after a magic number, the name, the size and the values of float32 vectors, one after another."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Layout, Literal, Slice, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Content

MAGIC = b"BAG1"
HEAD = struct.Struct("<HQ")  # bytes of the name, elements


class Bag:
    """A format needs no writer: a checkpoint is put together from its layout and its tensors."""

    name = "bag"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Look at the first bytes only, as this is called for every file."""
        return data[: len(MAGIC)] == MAGIC

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors. Nothing in the file can be trusted."""
        if not self.detect(data):
            raise FormatError("the file does not begin with BAG1")
        extents: dict[str, Extent] = {}
        position = len(MAGIC)
        while position < data.nbytes:
            head = data[position : position + HEAD.size]
            if head.nbytes < HEAD.size:
                raise FormatError("the file is truncated")
            length, elements = HEAD.unpack(head)
            start = position + HEAD.size + length
            try:
                name = str(data[position + HEAD.size : start], "utf-8")
                extent = Extent(name, TensorSpec.of("F32", (elements,)), start)
            except UnicodeDecodeError as error:
                raise FormatError("a name is not UTF-8") from error
            if extent.end > data.nbytes or name in extents:
                raise FormatError(f"parameter {name!r} is truncated or a duplicate")
            extents[name] = extent
            position = extent.end
        return list(extents.values())

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> Layout | None:
        """Lay out other parameters, for merges in which both sides add some."""
        segments: list[Literal | Slice] = []
        prefix = MAGIC
        for name, spec in parameters.items():
            if spec.dtype.name != "F32" or len(spec.shape) != 1:
                return None  # a bag cannot hold it
            written = name.encode()
            segments += [Literal(prefix + HEAD.pack(len(written), spec.elements) + written), Slice(name, spec)]
            prefix = b""
        return Layout(tuple(segments) or (Literal(MAGIC),))

    def facts(self, layout: Layout) -> Mapping[str, bytes]:
        """Return no facts: a bag has no metadata."""
        return {}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout with other metadata: there is none."""
        return None if facts else layout


FORMAT = Bag()
