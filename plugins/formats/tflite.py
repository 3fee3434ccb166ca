"""Models of TensorFlow Lite (LiteRT): `.tflite`, with the buffers of tensors.

See https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs. The scales of
quantised tensors are literal, as the graph is, so tensors of two versions are mixed only if these do not differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_DIMENSIONS, Extent, TensorSpec, dtype, opaque

from ._fixed_rest import FixedRest
from ._flatbuffers import Reader
from ._names import FreeNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

    from ._flatbuffers import Table

_IDENTIFIER = b"TFL3"
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER, _NAME = 0, 1, 2, 3
_DATA, _OFFSET, _SIZE = 0, 1, 2
_DTYPES = {
    0: "F32", 1: "F16", 2: "I32", 3: "U8", 4: "I64", 6: "BOOL", 7: "I16", 8: "C64", 9: "I8", 10: "F64", 11: "C128",
    12: "U64", 15: "U32", 16: "U16", 18: "BF16",
}  # fmt: skip
_SMALL = 4096
"""The most bytes of a buffer without a tensor that is literal."""
_LONGEST_NAME = 1 << 12


class TfliteFormat(FixedRest):
    """Finds the buffers, and names them by the first tensor that each has."""

    name = "tflite"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file has the identifier of such a model."""
        return bytes(data[4:8]) == _IDENTIFIER

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors that have values. Buffers of some size that no tensor has are ``buffer.3`` and so on.

        Raises:
            FormatError: The file is damaged.
            NotSplittable: It has too many tensors.
        """
        reader = Reader(data)
        model = reader.root()
        places = [_place(buffer) for buffer in model.tables(_BUFFERS)]
        names, found, done = FreeNames(), list[Extent](), set[int]()
        for tensor in (tensor for graph in model.tables(_SUBGRAPHS) for tensor in graph.tables(_TENSORS)):
            number = tensor.integer(_BUFFER, 4)
            if number >= len(places):
                raise FormatError(f"a tensor has buffer {number} of {len(places)}")
            start, nbytes = places[number]
            if nbytes and number not in done:
                name = names.take(tensor.text(_NAME, _LONGEST_NAME) or f"buffer.{number}")
                found.append(Extent(name, _spec(tensor, nbytes), start))
                done.add(number)
        for number, (start, nbytes) in enumerate(places):
            if number not in done and nbytes > _SMALL:
                found.append(Extent(names.take(f"buffer.{number}"), TensorSpec.of("U8", (nbytes,)), start))
        return found


FORMAT = TfliteFormat()


def _place(buffer: Table) -> tuple[int, int]:
    """Return where the bytes of a buffer begin, and their number; those of large models are after the graph."""
    offset, nbytes = buffer.integer(_OFFSET, 8), buffer.integer(_SIZE, 8)
    return (offset, nbytes) if offset > 1 else buffer.vector(_DATA, 1)


def _spec(tensor: Table, nbytes: int) -> TensorSpec:
    """Return the spec of a tensor: bytes of a type that is only known by its number if they do not fit the shape."""
    kind, shape = tensor.integer(_TYPE, 1), tuple(_sizes(tensor))
    if kind in _DTYPES and len(shape) <= MAX_DIMENSIONS:
        spec = TensorSpec(dtype(_DTYPES[kind]), shape)
        if spec.nbytes == nbytes:
            return spec
    return TensorSpec(opaque(8, f"tflite{kind}"), (nbytes,))


def _sizes(tensor: Table) -> Iterator[int]:
    start, count = tensor.vector(_SHAPE, 4)
    for number in range(min(count, MAX_DIMENSIONS + 1)):
        yield tensor.reader.integer(start + 4 * number, 4)
