"""Read the arrays of numpy in a pickle, as inert values with the places of their bytes.

Bytes of some size are not read but skipped, so that arrays take no memory. They are where the pickle has them: in a
string of bytes that numpy's own pickles have, or after the object of joblib's that stands for an array.
"""

from __future__ import annotations

from functools import cache
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_BYTES, Dtype, dtype

from ._pickle import MAX_OPCODES, Machine
from ._pickle_values import NODE, Budget, Global, Instance, Node
from ._torch_objects import Storage, leaves_of, tensor_of
from .npz import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pickletools import OpcodeInfo

    from ._pickle_stream import PickleStream
    from ._torch_objects import Leaf

SMALLEST = 64
"""The minimum size in bytes of what is a parameter."""

_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8, "BINSTRING": 4}
"""Opcodes that bytes follow, and the bytes that their size takes; the last one is a string of Python 2."""
_STATE_FIELDS, _DTYPE_FIELDS = 5, 8
_HAS_OBJECTS = 1  # of the flags of an element type
_MOST_NESTED = 16
_BYTES_TYPE = dtype("U8")


def read_arrays(data: PickleStream) -> tuple[dict[str, Storage], Iterator[tuple[str, Leaf]]]:
    """Read a pickle. Nothing is executed: objects of any class are their arguments and their state.

    Returns:
        The bytes of each array by their offset in the file, and every array with the first path to it, in the pickle's
        order. The stream is at the byte after the pickle.

    Raises:
        FormatError: The pickle is damaged.
    """
    storages: dict[str, Storage] = {}
    budget = Budget(data.nbytes)
    return storages, leaves_of(_ArrayMachine(data, storages, budget).run(data), budget)


def _refuse(_: object) -> None:
    raise FormatError("the pickle has persistent ids, which pickles of arrays do not have")


class _Wrapper(Instance):
    """Joblib's object that stands for an array, whose bytes follow it."""

    __slots__ = ()


class _ArrayMachine(Machine):
    """A machine that finds the bytes of arrays."""

    def __init__(self, data: PickleStream, storages: dict[str, Storage], budget: Budget, depth: int = 0) -> None:
        super().__init__(self._made, _refuse, budget)
        self._data = data
        self._storages = storages
        self._budget = budget
        self._depth = depth

    def _run(self, data: PickleStream) -> object:
        by_code = _opcodes()
        for _ in range(MAX_OPCODES):
            opcode = by_code[data.read(1)]
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name in _BYTES:
                size = int.from_bytes(data.read(_BYTES[opcode.name]), "little")
                self._stack.append(data.read(size) if size < SMALLEST else self._skipped(_BYTES_TYPE, size))
            else:
                self._step(opcode.name, None if opcode.arg is None else opcode.arg.reader(cast("IO[bytes]", data)))
        raise FormatError(f"a pickle of more than {MAX_OPCODES} opcodes")

    def _skipped(self, kind: Dtype, elements: int) -> Storage:
        self._budget.spend(NODE)
        storage = Storage(str(self._data.tell()), kind, elements)
        self._data.skip(storage.nbytes)
        self._storages[storage.key] = storage
        return storage

    def _made(self, function: object, args: tuple[Any, ...]) -> object:
        match function, args:
            case Global(name="NumpyArrayWrapper", module=module), _ if module.startswith("joblib."):
                return _Wrapper()
            case Global(name="encode", module="_codecs"), (Storage() as value, *_):
                return value  # in the content of a pickle of protocol 2
            case Global(name="_frombuffer", module=module), (Storage() as value, kind, shape, order) if (
                module.startswith("numpy.")
            ):
                return Node([(None, self._array(value, kind, shape, fortran=order == "F"))])
        return Instance([(str(number), value) for number, value in enumerate(args)])

    def _build(self, _: Any) -> None:
        state, target = self._stack[-1], self._stack[-2]
        super()._build(_)
        if isinstance(target, _Wrapper):
            target.items = [(None, self._following(state))]
        elif isinstance(target, Instance) and isinstance(state, tuple) and len(state) == _STATE_FIELDS:
            _, shape, kind, fortran, value = state
            if isinstance(value, Storage):
                target.items = [(None, self._array(value, kind, shape, fortran=fortran is True))]

    def _following(self, state: object) -> object:
        """Return the array after joblib's object, whose bytes may be aligned; the stream is after them then."""
        facts = dict(state.items) if isinstance(state, Node) else {}
        kind = facts.get("dtype")
        if _has_objects(kind):
            if self._depth == _MOST_NESTED:
                raise FormatError("damaged pickle: it is nested too deeply")
            return _ArrayMachine(self._data, self._storages, self._budget, self._depth + 1).run(self._data)
        shape, found = facts.get("shape"), _dtype(kind)
        elements = _count(shape)
        if found is None:
            raise FormatError("damaged pickle: an array of joblib's has no element type")
        if type(facts.get("numpy_array_alignment_bytes")) is int:
            self._data.read(self._data.read(1)[0])
        if elements * found.bits < 8 * SMALLEST:
            self._data.read(elements * found.bits // 8)
            return None
        return self._array(self._skipped(found, elements), kind, shape, fortran=facts.get("order") == "F")

    def _array(self, storage: Storage, kind: object, shape: object, *, fortran: bool) -> Leaf:
        """Return a string of bytes as the array that it is, if it has the size."""
        found = _dtype(kind)
        elements = _count(shape)
        if found is None or elements * found.bits != 8 * storage.nbytes or not isinstance(shape, tuple):
            return storage
        storage = self._storages[storage.key] = Storage(storage.key, found, elements)
        ordered = shape[::-1] if fortran else shape
        return tensor_of(storage, found, 0, ordered, _strides(ordered))

    _STEPS: ClassVar[dict[str, Callable[[Machine, Any], None]]] = {**Machine._STEPS, "BUILD": _build}  # type: ignore[dict-item]  # noqa: SLF001 - of the base class


@cache
def _opcodes() -> dict[bytes, OpcodeInfo]:
    from pickletools import opcodes

    return {opcode.code.encode("latin-1"): opcode for opcode in opcodes}


def _dtype(value: object) -> Dtype | None:
    """Return an element type, given numpy's object of it; None if it is none, or elements have no bytes."""
    match value:
        case Instance(items=[("0", str() as text), *rest]):
            states = [state for key, state in rest if key is None]
            order = states[0][1] if states and isinstance(states[0], tuple) and len(states[0]) > 1 else "|"
            return dtype_of(f"{order if order in ('<', '>') else '|'}{text}")
    return None


def _has_objects(value: object) -> bool:
    match value:
        case Instance(items=[("0", str() as text), *rest]):
            states = [state for key, state in rest if key is None and isinstance(state, tuple)]
            flags = states[0][_DTYPE_FIELDS - 1] if states and len(states[0]) >= _DTYPE_FIELDS else 0
            return text.startswith("O") or (type(flags) is int and bool(flags & _HAS_OBJECTS))
    return False


def _count(shape: object) -> int:
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape):
        raise FormatError("damaged pickle: an array has an impossible shape")
    count = 1
    for n in shape:
        count *= n
        if count > MAX_BYTES:
            raise FormatError("damaged pickle: an array has an impossible shape")
    return count


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
