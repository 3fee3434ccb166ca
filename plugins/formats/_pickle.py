"""Read a pickle without running it: a stack machine that builds lists, tuples and inert nodes, and calls nothing.

Opcodes come from the standard library's ``pickletools.genops``, which only decodes. No value is ever hashed or
compared, so that nested values cannot make that slow. What a global or a call means is left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 1 << 26
MAX_OPCODES = 1 << 22

_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_KNOWN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_WIDEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle imports."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Node:
    """A dictionary or an object: values under path components; None where a value adds nothing to the path."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[str | None, object]] | None = None) -> None:
        self.items = [] if items is None else items

    def set(self, key: object, value: object) -> None:
        """Add a value under a key; keys that make no short text are numbered."""
        if isinstance(key, str):
            text = key
        elif (
            key is None or isinstance(key, (bool, float)) or (isinstance(key, int) and key.bit_length() <= _WIDEST_KEY)
        ):
            text = str(key)
        else:
            text = str(len(self.items))
        self.items.append((text, value))


class _Mark:
    pass


_MARK = _Mark()


class Machine:
    """Runs a pickle's opcodes.

    Args:
        find: Says what a global stands for, or refuses it.
        call: Says what a global called with a tuple of arguments stands for.
        load: Says what a persistent id stands for.
    """

    def __init__(
        self,
        find: Callable[[Global], object],
        call: Callable[[object, tuple[Any, ...]], object],
        load: Callable[[object], object],
    ) -> None:
        self._find = find
        self._call = call
        self._load = load
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> object:
        """Return what the pickle describes.

        Raises:
            FormatError: The pickle is damaged, too large, or uses an opcode or a global that no checkpoint needs.
        """
        from pickletools import genops

        if len(data) > MAX_BYTES:
            raise FormatError(f"a pickle of {len(data)} bytes; {MAX_BYTES} are the most")
        try:
            for count, (opcode, argument, _) in enumerate(genops(data)):
                if opcode.name == "STOP":
                    return self._stack.pop()
                if count == MAX_OPCODES:
                    break
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise FormatError(f"damaged pickle: {error or type(error).__name__}") from error
        raise FormatError(f"a pickle of more than {MAX_OPCODES} opcodes")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(argument)
        elif name in _KNOWN:
            stack.append(_KNOWN[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise FormatError("damaged pickle: the stack is empty")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name not in ("PROTO", "FRAME"):
            step = self._STEPS.get(name)
            if step is None:
                raise FormatError(f"the pickle uses {name}, which no checkpoint needs")
            step(self, argument)

    def _marked(self) -> list[Any]:
        """Take what lies above the topmost mark."""
        values: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _empty_list(self, _: Any) -> None:
        self._stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self._stack.append(Node())

    def _list(self, _: Any) -> None:
        self._stack.append(self._marked())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def _dict(self, _: Any) -> None:
        values = self._marked()
        self._stack.append(Node())
        self._set(values)

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Node):
            for value in values:
                target.set(len(target.items), value)
        else:
            self._expect(target, list).extend(values)

    def _setitem(self, _: Any) -> None:
        value = self._stack.pop()
        key = self._stack.pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._marked())

    def _set(self, values: list[Any]) -> None:
        target = self._expect(self._stack[-1], Node)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target.set(key, value)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._find(Global(module, name)))

    def _stack_global(self, _: Any) -> None:
        name = self._expect(self._stack.pop(), str)
        module = self._expect(self._stack.pop(), str)
        self._stack.append(self._find(Global(module, name)))

    def _reduce(self, _: Any) -> None:
        arguments = self._expect(self._stack.pop(), tuple)
        self._stack.append(self._call(self._stack.pop(), arguments))

    def _new_with_names(self, _: Any) -> None:
        named = self._expect(self._stack.pop(), Node)
        arguments = self._expect(self._stack.pop(), tuple)
        made = self._call(self._stack.pop(), arguments)
        self._stack.append(Node([(None, made), (None, named)]))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Node):
            target.items.append((None, state))

    def _persistent(self, _: Any) -> None:
        self._stack.append(self._load(self._stack.pop()))

    @staticmethod
    def _expect(value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            raise FormatError(f"damaged pickle: {type(value).__name__} in the place of {kind.__name__}")
        return value

    _STEPS: ClassVar[dict[str, Callable[[Machine, Any], None]]] = {
        "MARK": _mark,
        "POP": _pop,
        "POP_MARK": _pop_mark,
        "DUP": _dup,
        "MEMOIZE": _memoize,
        "EMPTY_LIST": _empty_list,
        "EMPTY_SET": _empty_list,
        "EMPTY_DICT": _empty_dict,
        "LIST": _list,
        "FROZENSET": _list,
        "TUPLE": _tuple,
        "DICT": _dict,
        "APPEND": _append,
        "APPENDS": _appends,
        "ADDITEMS": _appends,
        "SETITEM": _setitem,
        "SETITEMS": _setitems,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "NEWOBJ": _reduce,
        "NEWOBJ_EX": _new_with_names,
        "BUILD": _build,
        "BINPERSID": _persistent,
    }
