"""ONNX models: `.onnx`, with the tensors that are in the file itself.

See https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Tensors are initializers and the values of constants, in
subgraphs and functions too. Values that are written as numbers of varying length stay literal. A tensor with values
in another file (external data) is not one of this file, which says where they are. Reading takes at most 16 times
the size of the graph in memory, and stops after a million fields.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, ExternalTensor, NotSplittable

from ._fixed_rest import FixedRest
from ._literal_content import LiteralContent
from ._names import FreeNames
from ._onnx_graph import GRAPH, LONGEST_NAME, model_fields, tensors
from ._protobuf import BYTES, Walker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content, Layout

    from ._onnx_graph import OnnxTensor

_KEY, _VALUE = 1, 2
_LONGEST_VALUE = 1 << 12
_MOST_DIGITS = 18


class OnnxFormat(FixedRest):
    """Finds the tensors of the graph and its subgraphs."""

    name = "onnx"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file is a message that begins with the version of ONNX and has one graph."""
        if bytes(data[:1]) != b"\x08":
            return False
        try:
            fields = list(model_fields(Walker(data)))
        except (FormatError, NotSplittable):
            return False
        return [field.kind for field in fields if field.number == GRAPH] == [BYTES]

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors. Those of subgraphs have the name of the node's output and of the attribute before theirs.

        Those of functions have the name of the function before it. Of several tensors of one name, all but the first
        have a number.

        Raises:
            FormatError: A message is damaged, or the values of a tensor do not fit its shape.
            NotSplittable: The graph has too many fields or too long names.
        """
        names = FreeNames()
        return [
            Extent(names.take(tensor.name), tensor.spec(field.end - field.start, field.number), field.start)
            for tensor in _bounded(Walker(data))
            if (field := tensor.values) is not None
        ]

    def external_tensors(self, layout: Layout) -> list[ExternalTensor]:
        """Return the tensors whose values are in other files of the directory.

        Raises:
            FormatError: The layout is not that of a model.
        """
        names = FreeNames()
        for name in layout.parameters:
            names.take(name)
        walker = Walker(LiteralContent(layout))
        try:
            every = [_external(walker, tensor) for tensor in _bounded(walker) if tensor.external]
        except NotSplittable as error:
            raise FormatError(str(error)) from error
        return [ExternalTensor(names.take(one.name), one.spec, one.file, one.offset) for one in every if one]


FORMAT = OnnxFormat()


def _bounded(walker: Walker) -> Iterator[OnnxTensor]:
    """Yield the tensors of a model whose names are not longer than the file."""
    budget = LONGEST_NAME + walker.data.nbytes
    for tensor in tensors(walker):
        budget -= len(tensor.name)
        if budget < 0:
            raise NotSplittable("the names of its tensors are longer than the file")
        yield tensor


def _external(walker: Walker, tensor: OnnxTensor) -> ExternalTensor | None:
    """Return where the values of a tensor are; None if that is not clear."""
    entries = {}
    for entry in tensor.external:
        parts = {part.number: walker.text(part, _LONGEST_VALUE) for part in walker.fields(entry.start, entry.end)}
        entries[parts.get(_KEY, "")] = parts.get(_VALUE, "")
    file, offset, length = entries.get("location", ""), entries.get("offset", "0"), entries.get("length", "")
    if not file or not all(len(n) <= _MOST_DIGITS and n.isascii() and n.isdecimal() for n in (offset, length)):
        return None
    if not int(length):
        return None
    try:
        return ExternalTensor(tensor.name, tensor.spec(int(length)), posixpath.normpath(file), int(offset))
    except FormatError:
        return None  # its place does not fit its shape
