"""Read the storages of a torch checkpoint and the tensors in them from its pickle, as inert values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_BYTES, MAX_DIMENSIONS, Dtype, dtype, opaque

from ._pickle import Machine
from ._pickle_values import NODE, Budget, Global, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_LIGHTNING = (
    "lightning.fabric.utilities.data",
    "lightning_fabric.utilities.data",
    "lightning.pytorch.utilities.parsing",
    "pytorch_lightning.utilities.parsing",
)
_BUILTINS = "set frozenset dict list tuple complex bytearray bytes str int float bool slice range"
_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
# Globals besides element types and storages. They are never imported or called: this module knows their meaning.
_ALLOWED = {
    "collections": "OrderedDict defaultdict Counter deque",
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "datetime": "date datetime time timedelta timezone",
    "_codecs": "encode",
    "numpy": "dtype ndarray",
    **dict.fromkeys(("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct scalar"),
    **dict.fromkeys(("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
    **dict.fromkeys(_LIGHTNING, "AttributeDict"),
    "torch": "Size device Tensor per_tensor_affine per_channel_affine strided sparse_coo sparse_csr",
    "torch._tensor": "_rebuild_from_type_v2",
    "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter"
    " _rebuild_parameter_with_state _rebuild_sparse_tensor _rebuild_qtensor _rebuild_meta_tensor_no_storage",
    "torch.nn.parameter": "Parameter Buffer",
    "torch.serialization": "_get_layout",
    "torch.storage": "UntypedStorage",
    "torch.torch_version": "TorchVersion",
}
_NAMES = {Global(module, name) for module, names in _ALLOWED.items() for name in names.split()}
_NAMES |= {Global("torch", name) for name in (*_DTYPES, *_ODD_DTYPES, *_STORAGES)}
_KNOWN = {name: name for name in _NAMES}


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


def read_objects(data: bytes) -> tuple[dict[str, Storage], Iterator[tuple[str, Leaf]]]:
    """Read the pickle of a checkpoint.

    Returns:
        The storages by key, and every storage and tensor once, with the first path to it, in the pickle's order.

    Raises:
        FormatError: The pickle is damaged, or has something that no plain checkpoint has. Nothing is executed.
    """
    storages: dict[str, Storage] = {}

    def load(ident: object) -> Storage:
        storage = _storage(ident)
        first = storages.setdefault(storage.key, storage)
        if first.nbytes != storage.nbytes:
            raise FormatError(f"storage {storage.key!r} has both {first.nbytes} and {storage.nbytes} bytes")
        return storage

    budget = Budget(len(data))
    return storages, _leaves(Machine(_find, _call, load, budget).run(data), budget)


def _find(name: Global) -> Global:
    allowed = _KNOWN.get(name)
    if allowed is None:
        raise FormatError(
            f"the pickle calls {str(name)[:200]!r}, which could run code; it was not run",
            hint="save only the state_dict, or set theta-format=opaque for this path in .gitattributes",
        )
    return allowed


def _call(function: object, args: tuple[Any, ...]) -> object:
    if not isinstance(function, Global):
        raise FormatError("damaged pickle: it calls something that is not a function")
    try:
        match function.name, args:
            case (("_rebuild_tensor" | "_rebuild_tensor_v2"), (Storage() as storage, offset, shape, strides, *_)):
                return _tensor(storage, storage.dtype, offset, shape, strides)
            case "_rebuild_tensor_v3", (Storage() as storage, offset, shape, strides, _, _, Global() as kind, *_):
                return _tensor(storage, _torch_dtype(kind.name), offset, shape, strides)
            case "_rebuild_parameter", (data, *_):
                return data
            case "_rebuild_parameter_with_state", (data, _, _, state, *_):
                return Node([(None, data), (None, state)])
            case "_rebuild_from_type_v2", (inner, Global(), tuple() as inner_args, state):
                return Node([(None, _call(inner, inner_args)), (None, state)])
    except RecursionError as error:
        raise FormatError("damaged pickle: it is nested too deeply") from error
    if function.name.startswith(("_rebuild_tensor", "_rebuild_parameter", "_rebuild_from")):
        raise FormatError(f"damaged pickle: {function} is called with arguments that it does not take")
    return Node([(str(number), value) for number, value in enumerate(args)])


def _storage(ident: object) -> Storage:
    match ident:
        case (
            "storage",
            Global(module="torch" | "torch.storage", name=kind),
            str() as key,
            _,
            int() as elements,
            *_,
        ) if kind in _STORAGES and 0 <= elements <= MAX_BYTES:
            return Storage(key, dtype(_STORAGES[kind]), elements)
    raise FormatError("damaged pickle: a persistent id does not name a storage")


def _torch_dtype(name: str) -> Dtype:
    if name in _ODD_DTYPES:
        return opaque(_ODD_DTYPES[name], name)
    if name not in _DTYPES:
        raise FormatError(f"damaged pickle: {name!r} is not an element type")
    return dtype(_DTYPES[name])


def _tensor(storage: Storage, kind: Dtype, offset: object, shape: object, strides: object) -> Tensor:
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MAX_DIMENSIONS):
        raise FormatError(f"damaged pickle: a tensor in storage {storage.key!r} has no shape and strides")
    if not all(type(n) is int and 0 <= n <= MAX_BYTES for n in (offset, *shape, *strides)):
        raise FormatError(f"damaged pickle: a tensor in storage {storage.key!r} has an impossible shape")
    assert isinstance(offset, int)
    return Tensor(storage, kind, offset, shape, strides)


_Path = tuple["_Path | None", str]


def _leaves(root: object, budget: Budget) -> Iterator[tuple[str, Leaf]]:
    # A loop and not recursion, because the file determines the depth.
    pending: list[tuple[_Path | None, Iterator[tuple[object, object]]]] = [(None, iter([(None, root)]))]
    seen: set[int] = set()
    while pending:
        path, items = pending[-1]
        for key, value in items:
            if not isinstance(value, (Node, list, tuple, Storage, Tensor)) or value == () or id(value) in seen:
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
            pending.append((current, iter(value.items if isinstance(value, Node) else enumerate(value))))
            break
        else:
            pending.pop()


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
