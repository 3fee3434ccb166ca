"""Read a pickle without running it: a stack machine that builds lists, tuples and inert nodes, and calls nothing.

Opcodes come from the standard library's ``pickletools.genops``, which only decodes. Values are never hashed or
compared, so nested values cannot make that slow. A global is a name. The caller decides what a call means.

Reading takes at most 40 times the pickle's size plus 4 MiB of memory, and linear time. An opcode of one byte can create
an object of a hundred bytes, so objects are charged to a ``Budget``, which is large enough for any checkpoint.
"""

from __future__ import annotations

import warnings
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from git_theta_ext.errors import FormatError

from ._pickle_stream import MAX_BYTES
from ._pickle_values import NODE, SEQUENCE, Budget, Global, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._pickle_stream import PickleStream

MAX_OPCODES = 1 << 22

_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_KNOWN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Mark:
    pass


_MARK = _Mark()


class Machine:
    """A machine that interprets the opcodes of a pickle.

    Args:
        call: Returns the value of a call of a global, or of what another call returned, with a tuple of arguments.
        load: Returns the value of a persistent id.
        budget: The budget of the objects that it builds.
    """

    def __init__(
        self,
        call: Callable[[object, tuple[Any, ...]], object],
        load: Callable[[object], object],
        budget: Budget,
    ) -> None:
        self._call = call
        self._load = load
        self._spend = budget.spend
        self._stack: list[Any] = []
        self._memo: list[Any] = []  # pickles number their objects starting at zero
        self._scattered: dict[int, Any] = {}

    def run(self, data: PickleStream) -> object:
        """Return what the pickle describes. Afterwards the stream is at the byte after it.

        Raises:
            FormatError: The pickle is damaged or too large, or it uses an opcode that no checkpoint needs.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about escapes in the texts of the file, which the user did not write
                return self._run(data)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            if data.exceeded:
                raise FormatError(f"a pickle of more than {MAX_BYTES} bytes") from error
            raise FormatError(f"damaged pickle: {error or type(error).__name__}") from error

    def _run(self, data: PickleStream) -> object:
        from pickletools import genops

        for count, (opcode, argument, _) in enumerate(genops(cast("IO[bytes]", data))):
            if opcode.name == "STOP":
                return self._stack.pop()
            if count == MAX_OPCODES:
                break
            self._step(opcode.name, argument)
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
            self._spend(SEQUENCE)
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument] if 0 <= argument < len(self._memo) else self._scattered[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._put(argument, stack[-1])
        elif name not in ("PROTO", "FRAME"):
            step = self._STEPS.get(name)
            if step is None:
                raise FormatError(f"the pickle uses {name}, which no checkpoint needs")
            step(self, argument)

    def _put(self, number: int, value: object) -> None:
        if number == len(self._memo):
            self._memo.append(value)
            self._scattered.pop(number, None)
        elif 0 <= number < len(self._memo):
            self._memo[number] = value
        else:
            self._spend(2 * SEQUENCE)
            self._scattered[number] = value

    def _marked(self) -> list[Any]:
        """Pop the values above the topmost mark."""
        self._spend(SEQUENCE)
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
        self._put(len(self._memo) + len(self._scattered), self._stack[-1])

    def _empty_list(self, _: Any) -> None:
        self._spend(SEQUENCE)
        self._stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self._spend(2 * SEQUENCE)
        self._stack.append(Node())

    def _list(self, _: Any) -> None:
        self._stack.append(self._marked())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def _dict(self, _: Any) -> None:
        values = self._marked()
        self._empty_dict(None)
        self._set(values)

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Node):
            self._spend(2 * SEQUENCE * len(values))
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
        if len(values) % 2:
            raise FormatError("damaged pickle: a key without a value")
        self._spend(NODE * (len(values) // 2))
        for at in range(0, len(values), 2):
            target.set(values[at], values[at + 1])

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._import(module, name)

    def _stack_global(self, _: Any) -> None:
        name = self._expect(self._stack.pop(), str)
        module = self._expect(self._stack.pop(), str)
        self._import(module, name)

    def _import(self, module: str, name: str) -> None:
        self._spend(3 * SEQUENCE)
        self._stack.append(Global(module, name))

    def _reduce(self, _: Any) -> None:
        arguments = self._expect(self._stack.pop(), tuple)
        self._stack.append(self._called(self._stack.pop(), arguments))

    def _called(self, function: object, arguments: tuple[Any, ...]) -> object:
        made = self._call(function, arguments)
        # Two bytes suffice to use the same arguments again.
        self._spend(2 * SEQUENCE * len(made.items) + SEQUENCE if isinstance(made, Node) else NODE)
        return made

    def _new_with_names(self, _: Any) -> None:
        named = self._expect(self._stack.pop(), Node)
        arguments = self._expect(self._stack.pop(), tuple)
        made = self._called(self._stack.pop(), arguments)
        self._spend(4 * SEQUENCE)
        self._stack.append(Node([(None, made), (None, named)]))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Node):
            self._spend(SEQUENCE)
            target.items.append((None, state))

    def _persistent(self, _: Any) -> None:
        self._spend(SEQUENCE)
        self._stack.append(self._load(self._stack.pop()))

    @staticmethod
    def _expect(value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            raise FormatError(f"damaged pickle: {type(value).__name__} instead of {kind.__name__}")
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
