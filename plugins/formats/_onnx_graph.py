"""The tensors in the graph of an ONNX model, with their names, wherever their values are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable, TensorSpec, dtype, opaque

from ._protobuf import BYTES, VARINT, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._protobuf import Walker

GRAPH, _FUNCTION, _LAST_MODEL_FIELD = 7, 25, 31
_FUNCTION_NAME, _FUNCTION_NODE = 1, 7
_VERSIONS = (1, 5)
"""Fields of a model that are integers: the versions of the format and of the model."""
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_NODE_OUTPUT, _NODE_ATTRIBUTE = 2, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 1, 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_OUTSIDE = 1
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
LONGEST_NAME = 1 << 12
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """A tensor of a graph.

    Attributes:
        name: Its name, which other tensors may have too.
        kind: The number of its element type.
        shape: Its shape.
        values: The field with its values; None if it has none, or several.
        external: The fields that say where its values are in another file; none if they are in this one.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    values: Field | None
    external: tuple[Field, ...] = ()

    def spec(self, nbytes: int, field: int = _RAW_DATA) -> TensorSpec:
        """Return the spec of values of this size: bytes of a type that is only known by its number if they do not fit.

        Args:
            nbytes: The size of the values in bytes.
            field: The number of the field that has them.

        Raises:
            FormatError: The type is known, and the values do not fit it and the shape.
        """
        element = _NUMBERS.get(field) or _DTYPES.get(self.kind)
        try:
            if element and (spec := TensorSpec(dtype(element), self.shape)).nbytes == nbytes:
                return spec
        except FormatError as error:
            raise FormatError(f"parameter {self.name!r}: {error.message}") from error
        if element and self.kind != _F4:
            fits = f"{element} {list(self.shape)} does not have the {nbytes} bytes in the file"
            raise FormatError(f"parameter {self.name!r}: {fits}")
        return TensorSpec(opaque(8, f"onnx{self.kind}"), (nbytes,))


def tensors(walker: Walker) -> Iterator[OnnxTensor]:
    """Yield the tensors of the graph and of the functions of a model.

    Raises:
        FormatError: A message is damaged.
        NotSplittable: Graphs are nested too deeply, or there are too many fields.
    """
    for field in model_fields(walker):
        if field.number == GRAPH:
            yield from _graph(walker, field, "", 0)
        elif field.number == _FUNCTION:
            name, nodes = "", []
            for part in walker.fields(field.start, field.end):
                if part.number == _FUNCTION_NAME:
                    name = walker.text(part, LONGEST_NAME)
                elif part.number == _FUNCTION_NODE and part.kind == BYTES:
                    nodes.append(part)
            for node in nodes:
                yield from _node(walker, node, f"{name}/", 0)


def model_fields(walker: Walker) -> Iterator[Field]:
    """Yield the fields of the model itself.

    Raises:
        FormatError: A field is not one of a model.
    """
    for field in walker.fields(0, walker.data.nbytes):
        if field.number > _LAST_MODEL_FIELD or field.kind != (VARINT if field.number in _VERSIONS else BYTES):
            raise FormatError(f"field {field.number} is not one of a model")
        yield field


def _graph(walker: Walker, graph: Field, prefix: str, depth: int) -> Iterator[OnnxTensor]:
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


def _node(walker: Walker, node: Field, prefix: str, depth: int) -> Iterator[OnnxTensor]:
    output = ""
    attributes = []
    for field in walker.fields(node.start, node.end):
        if field.number == _NODE_OUTPUT and not output:
            output = walker.text(field, LONGEST_NAME)
        elif field.number == _NODE_ATTRIBUTE and field.kind == BYTES:
            attributes.append(field)
    for attribute in attributes:
        yield from _attribute(walker, attribute, f"{prefix}{output}/", depth)


def _attribute(walker: Walker, attribute: Field, prefix: str, depth: int) -> Iterator[OnnxTensor]:
    name = ""
    count = 0
    for field in walker.fields(attribute.start, attribute.end):
        if field.number == _ATTRIBUTE_NAME:
            name = walker.text(field, LONGEST_NAME)
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


def _tensor(walker: Walker, tensor: Field, prefix: str, label: str, *, named: bool = True) -> Iterator[OnnxTensor]:
    """Yield a tensor; it has its own name, if it has any."""
    shape: list[int] = []
    kind, name, values, external, outside = 0, label, [], [], False
    for field in walker.fields(tensor.start, tensor.end):
        if field.number == _DIMS:
            shape += walker.integers(field, _MOST_DIMENSIONS)
            if len(shape) > _MOST_DIMENSIONS:
                raise FormatError(f"the tensor at byte {tensor.start} has more than {_MOST_DIMENSIONS} dimensions")
        elif field.number == _DATA_TYPE:
            kind = field.value
        elif field.number == _DATA_LOCATION:
            outside = field.value == _OUTSIDE
        elif field.number == _TENSOR_NAME and named:
            name = walker.text(field, LONGEST_NAME) or label
        elif field.kind == BYTES and field.number == _EXTERNAL_DATA:
            external.append(field)
        elif field.kind == BYTES and (field.number == _RAW_DATA or field.number in _NUMBERS):
            values.append(field)
    contiguous = values[0] if len(values) == 1 and values[0].end > values[0].start else None
    yield OnnxTensor(prefix + name, kind, tuple(shape), contiguous, tuple(external) if outside else ())
