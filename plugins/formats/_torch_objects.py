"""Read the storages of a torch checkpoint and the tensors in them from its pickle, as inert values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_BYTES, MAX_DIMENSIONS, Dtype, dtype, opaque

from ._pickle import Machine
from ._pickle_values import NODE, Budget, Global, Instance, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._pickle_stream import PickleStream

MAX_NAME = 4096
"""The limit of characters in the name of a parameter."""
MAX_DEPTH = 4096
"""The limit of nested containers. Each of them adds at least a character to a name."""

_DTYPES = {
    "float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "complex64": "C64", "complex128": "C128",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "bool": "BOOL",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
_ODD_DTYPES = {
    "complex32": 32, "float4_e2m1fn_x2": 8, "bits8": 8, "bits16": 16, "bits1x8": 8, "bits2x4": 8, "bits4x2": 8,
    "qint8": 8, "quint8": 8, "qint32": 32, "quint4x2": 8, "quint2x4": 8,
    **{f"{sign}int{bits}": 8 for sign in ("", "u") for bits in range(1, 8)},
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexDoubleStorage": "C128", "ComplexFloatStorage": "C64", "UntypedStorage": "U8",
    "QInt8Storage": "I8", "QUInt8Storage": "U8", "QInt32Storage": "I32",
    "QUInt4x2Storage": "U8", "QUInt2x4Storage": "U8",
}  # fmt: skip
_MODULE = frozenset({"_parameters", "_buffers", "_modules"})
"""What a ``torch.nn.Module`` keeps its tensors in. A ``state_dict`` leaves it out of names."""
_MAX_WRAPPED = 16
"""The limit of tensor subclasses around each other, far below Python's limit of recursion, which machines differ in."""


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A record of the archive as the pickle describes it: ``elements`` elements of type ``dtype``."""

    key: str
    dtype: Dtype
    elements: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.elements * self.dtype.bits // 8


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A strided view of a storage; offset and strides in elements of ``dtype``."""

    storage: Storage
    dtype: Dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether the storage consists of exactly this tensor, in row-major order."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return self.offset == 0 and expected * self.dtype.bits == self.storage.nbytes * 8

    @property
    def inside(self) -> bool:
        """Whether every element is inside the storage."""
        if 0 in self.shape:
            return True
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.bits <= self.storage.nbytes * 8


Leaf = Storage | Tensor


def read_objects(data: PickleStream) -> tuple[dict[str, Storage], Iterator[tuple[str, Leaf]]]:
    """Read the pickle of a checkpoint. Nothing is executed: objects of any class are their arguments and their state.

    Returns:
        The storages by key, and what ``leaves_of`` yields, in the pickle's order. The stream is at the byte after the
        pickle.

    Raises:
        FormatError: The pickle is damaged.
    """
    storages: dict[str, Storage] = {}

    def load(ident: object) -> object:
        if isinstance(ident, tuple) and ident[:1] == ("module",):
            return ident[1] if len(ident) > 1 else None  # a class, with its source code, in a legacy file
        storage = _storage(ident)
        first = storages.setdefault(storage.key, storage)
        if first.nbytes != storage.nbytes:
            raise FormatError(f"storage {storage.key!r} has both {first.nbytes} and {storage.nbytes} bytes")
        return storage

    budget = Budget(data.nbytes)
    return storages, leaves_of(Machine(_call, load, budget).run(data), budget)


def _call(function: object, args: tuple[Any, ...], depth: int = 0) -> object:
    name = str(function) if isinstance(function, Global) else ""
    match name, args:
        case (
            ("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2"),
            (Storage() as storage, offset, shape, strides, *_),
        ):
            return tensor_of(storage, storage.dtype, offset, shape, strides)
        case (
            "torch._utils._rebuild_tensor_v3",
            (Storage() as storage, offset, shape, strides, _, _, Global(module="torch", name=kind), *_),
        ):
            return tensor_of(storage, _torch_dtype(kind), offset, shape, strides)
        case "torch._utils._rebuild_parameter", (data, *_):
            return data
        case "torch._utils._rebuild_parameter_with_state", (data, _, _, state, *_):
            return Node([(None, data), (None, state)])
        case "torch._tensor._rebuild_from_type_v2", (inner, Global(), tuple() as inner_args, state):
            if depth == _MAX_WRAPPED:
                raise FormatError("damaged pickle: it is nested too deeply")
            return Node([(None, _call(inner, inner_args, depth + 1)), (None, state)])
    if name.startswith(("torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter")):
        raise FormatError(f"damaged pickle: {function} is called with arguments that it does not take")
    return Instance([(str(number), value) for number, value in enumerate(args)])


def _storage(ident: object) -> Storage:
    match ident:
        case (
            "storage",
            Global(module="torch" | "torch.storage", name=kind),
            (str() | int()) as key,  # torch.package numbers them
            _,
            int() as elements,
            *_,
        ) if kind in _STORAGES and 0 <= elements <= MAX_BYTES:
            return Storage(str(key), dtype(_STORAGES[kind]), elements)
    raise FormatError("damaged pickle: a persistent id does not name a storage")


def _torch_dtype(name: str) -> Dtype:
    if name in _ODD_DTYPES:
        return opaque(_ODD_DTYPES[name], name)
    if name not in _DTYPES:
        raise FormatError(f"damaged pickle: {name!r} is not an element type")
    return dtype(_DTYPES[name])


def tensor_of(storage: Storage, kind: Dtype, offset: object, shape: object, strides: object) -> Tensor:
    """Return a view of a storage, given by values of any type.

    Raises:
        FormatError: They are no offset, shape and strides.
    """
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MAX_DIMENSIONS):
        raise FormatError(f"a tensor in storage {storage.key!r} has no shape and strides")
    if not all(type(n) is int and 0 <= n <= MAX_BYTES for n in (offset, *shape, *strides)):
        raise FormatError(f"a tensor in storage {storage.key!r} has an impossible shape")
    assert isinstance(offset, int)
    return Tensor(storage, kind, offset, shape, strides)


_Path = tuple["_Path | None", str]


def leaves_of(root: object, budget: Budget) -> Iterator[tuple[str, Leaf]]:
    """Yield every storage in an object, with the first path to it, and every tensor, with the paths to it.

    The paths into a container are those that begin with the first path to the container.
    """
    # A loop and not recursion, because the file determines the depth.
    pending: list[tuple[_Path | None, object, Iterator[tuple[object, object]]]] = [(None, None, iter([(None, root)]))]
    seen: set[int] = set()
    while pending:
        path, parent, items = pending[-1]
        for key, value in items:
            if not isinstance(value, (Node, list, tuple, Storage, Tensor)) or value == ():
                continue
            if id(value) in seen and not isinstance(value, Tensor):
                continue
            seen.add(id(value))
            budget.spend(NODE)
            current = path if key is None else (path, str(key))
            if isinstance(value, (Storage, Tensor)):
                name = _join(current)
                budget.spend(len(name))
                yield name, value
                continue
            if len(pending) == MAX_DEPTH:
                raise FormatError(f"containers are nested more than {MAX_DEPTH} deep in the pickle")
            state = key is None and isinstance(parent, Instance)
            pending.append((current, value, _items(value, state=state)))
            break
        else:
            pending.pop()


def _items(value: Node | list[object] | tuple[object, ...], *, state: bool) -> Iterator[tuple[object, object]]:
    """Return the values in a container by what they add to a path; ``state`` is whether it is that of an object."""
    if not isinstance(value, Node):
        return iter(enumerate(value))
    if not state:
        return iter(value.items)
    return ((None if key in _MODULE else key, item) for key, item in value.items)


def _join(path: _Path | None) -> str:
    parts: list[str] = []
    length = 0
    while path is not None:
        path, key = path
        parts.append(key)
        length += len(key) + 1
        if length > MAX_NAME:
            raise FormatError(f"a parameter name has more than {MAX_NAME} characters: {key[:40]!r}...")
    return ".".join(reversed(parts)) if parts else "tensor"
