"""ONNX models: `.onnx`, with the tensors that are in the file itself.

See https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Tensors are initializers and the values of constants, in
subgraphs and functions too. A tensor whose values are in another file (external data) is not one here; values that are
written as numbers of varying length stay literal. Reading takes at most 16 times the size of the graph in memory, and
stops after a million fields.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Literal, NotSplittable, TensorSpec, dtype, opaque

from ._names import FreeNames
from ._protobuf import BYTES, VARINT, Field, Walker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Layout

_GRAPH, _FUNCTION, _LAST_MODEL_FIELD = 7, 25, 31
_FUNCTION_NAME, _FUNCTION_NODE = 1, 7
_VERSIONS = (1, 5)
"""Fields of a model that are integers: the versions of the format and of the model."""
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_NODE_OUTPUT, _NODE_ATTRIBUTE = 2, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 1, 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT_DATA, _DOUBLE_DATA = 4, 10
_NUMBERS = {_FLOAT_DATA: "F32", _DOUBLE_DATA: "F64"}
"""Fields whose packed values are tensors too."""
_DTYPES = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32",
    13: "U64", 14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ",
    23: "F4", 24: "F8_E8M0",
}  # fmt: skip
_F4 = 23
_MOST_DIMENSIONS = 64
_LONGEST_NAME = 1 << 12
_DEEPEST = 16


class OnnxFormat:
    """Finds the tensors of the graph and its subgraphs."""

    name = "onnx"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file is a message that begins with the version of ONNX and has one graph."""
        if bytes(data[:1]) != b"\x08":
            return False
        try:
            fields = list(_model(Walker(data)))
        except (FormatError, NotSplittable):
            return False
        return [field.kind for field in fields if field.number == _GRAPH] == [BYTES]

    def parse(self, data: Content) -> list[Extent]:
        """Find the tensors. Those of subgraphs have the name of the node's output and of the attribute before theirs.

        Those of functions have the name of the function before it. Of several tensors of one name, all but the first
        have a number.

        Raises:
            FormatError: A message is damaged, or the values of a tensor do not fit its shape.
            NotSplittable: The graph has too many fields or too long names.
        """
        walker = Walker(data)
        names = FreeNames()
        found: list[Extent] = []
        budget = _LONGEST_NAME + data.nbytes
        for extent in _tensors(walker):
            budget -= len(extent.name)
            if budget < 0:
                raise NotSplittable("the names of its tensors are longer than the file")
            found.append(replace(extent, name=names.take(extent.name)))
        return found

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the graph would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return all bytes besides the tensors: the graph."""
        return {"graph": b"".join(part.data for part in layout.segments if isinstance(part, Literal))}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout if it has these facts, else None."""
        return layout if facts == self.facts(layout) else None


FORMAT = OnnxFormat()


def _tensors(walker: Walker) -> Iterator[Extent]:
    """Yield the tensors of the graph and of the functions of a model."""
    for field in _model(walker):
        if field.number == _GRAPH:
            yield from _graph(walker, field, "", 0)
        elif field.number == _FUNCTION:
            name, nodes = "", []
            for part in walker.fields(field.start, field.end):
                if part.number == _FUNCTION_NAME:
                    name = walker.text(part, _LONGEST_NAME)
                elif part.number == _FUNCTION_NODE and part.kind == BYTES:
                    nodes.append(part)
            for node in nodes:
                yield from _node(walker, node, f"{name}/", 0)


def _model(walker: Walker) -> Iterator[Field]:
    """Yield the fields of the model itself.

    Raises:
        FormatError: A field is not one of a model.
    """
    for field in walker.fields(0, walker.data.nbytes):
        if field.number > _LAST_MODEL_FIELD or field.kind != (VARINT if field.number in _VERSIONS else BYTES):
            raise FormatError(f"field {field.number} is not one of a model")
        yield field


def _graph(walker: Walker, graph: Field, prefix: str, depth: int) -> Iterator[Extent]:
    if depth > _DEEPEST:
        raise NotSplittable(f"graphs are nested more than {_DEEPEST} deep")
    unnamed = 0
    for field in walker.fields(graph.start, graph.end):
        if field.kind != BYTES:
            continue
        if field.number == _INITIALIZER:
            yield from _tensor(walker, field, prefix, f"initializer_{unnamed}")
            unnamed += 1
        elif field.number == _SPARSE_INITIALIZER:
            name = f"sparse_initializer_{unnamed}"
            unnamed += 1
            for part in walker.fields(field.start, field.end):
                label = {_SPARSE_VALUES: "values", _SPARSE_INDICES: "indices"}.get(part.number)
                if label and part.kind == BYTES:
                    yield from _tensor(walker, part, f"{prefix}{name}/", label)
        elif field.number == _NODE:
            yield from _node(walker, field, prefix, depth)


def _node(walker: Walker, node: Field, prefix: str, depth: int) -> Iterator[Extent]:
    output = ""
    attributes = []
    for field in walker.fields(node.start, node.end):
        if field.number == _NODE_OUTPUT and not output:
            output = walker.text(field, _LONGEST_NAME)
        elif field.number == _NODE_ATTRIBUTE and field.kind == BYTES:
            attributes.append(field)
    for attribute in attributes:
        yield from _attribute(walker, attribute, f"{prefix}{output}/", depth)


def _attribute(walker: Walker, attribute: Field, prefix: str, depth: int) -> Iterator[Extent]:
    name = ""
    count = 0
    for field in walker.fields(attribute.start, attribute.end):
        if field.number == _ATTRIBUTE_NAME:
            name = walker.text(field, _LONGEST_NAME)
        elif field.kind != BYTES:
            continue
        elif field.number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            label = f"{name}_{count}" if field.number == _ATTRIBUTE_TENSORS else name
            yield from _tensor(walker, field, f"{prefix}{label}", "", named=False)
            count += 1
        elif field.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            label = f"{name}_{count}" if field.number == _ATTRIBUTE_GRAPHS else name
            yield from _graph(walker, field, f"{prefix}{label}/", depth + 1)
            count += 1


def _tensor(walker: Walker, tensor: Field, prefix: str, label: str, *, named: bool = True) -> Iterator[Extent]:
    """Yield the values of a tensor if they are contiguous in the file; it has its own name, if it has any."""
    shape: list[int] = []
    kind, name, values = 0, label, []
    for field in walker.fields(tensor.start, tensor.end):
        if field.number == _DIMS:
            shape += walker.integers(field, _MOST_DIMENSIONS)
            if len(shape) > _MOST_DIMENSIONS:
                raise FormatError(f"the tensor at byte {tensor.start} has more than {_MOST_DIMENSIONS} dimensions")
        elif field.number == _DATA_TYPE:
            kind = field.value
        elif field.number == _TENSOR_NAME and named:
            name = walker.text(field, _LONGEST_NAME) or label
        elif field.kind == BYTES and (field.number == _RAW_DATA or field.number in _NUMBERS):
            values.append(field)
    if len(values) == 1 and values[0].end > values[0].start:
        yield Extent(prefix + name, _spec(prefix + name, kind, tuple(shape), values[0]), values[0].start)


def _spec(name: str, kind: int, shape: tuple[int, ...], values: Field) -> TensorSpec:
    """Return the spec of the values: bytes of a type that is only known by its number if they do not fit the shape."""
    nbytes = values.end - values.start
    element = _NUMBERS.get(values.number) or _DTYPES.get(kind)
    try:
        if element and (spec := TensorSpec(dtype(element), shape)).nbytes == nbytes:
            return spec
    except FormatError as error:
        raise FormatError(f"parameter {name!r}: {error.message}") from error
    if element and kind != _F4:
        raise FormatError(f"parameter {name!r}: {element} {list(shape)} does not have the {nbytes} bytes in the file")
    return TensorSpec(opaque(8, f"onnx{kind}"), (nbytes,))
