"""The values that the opcodes of a pickle build, and the budget for them."""

from __future__ import annotations

from dataclasses import dataclass

from git_theta_ext.errors import FormatError

COST_EACH = 24
"""The budget per byte of a pickle. State dicts cost 6 to 10 per byte, and optimizer states up to 16."""
COST_FREE = 1 << 22
"""The budget of any pickle, in addition to the budget per byte."""
SEQUENCE, NODE = 64, 96
"""The costs of objects: about their size in memory, in bytes."""

_WIDEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle imports."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Budget:
    """The remaining budget of reading a pickle.

    Args:
        nbytes: Size of the pickle in bytes.
    """

    __slots__ = ("_left",)

    def __init__(self, nbytes: int) -> None:
        self._left = COST_EACH * nbytes + COST_FREE

    def spend(self, cost: int) -> None:
        """Charge the cost of an object.

        Raises:
            FormatError: The budget is exceeded: no checkpoint of this size has so many objects.
        """
        self._left -= cost
        if self._left < 0:
            raise FormatError("a pickle with more objects than a checkpoint of its size has")


class Node:
    """A dictionary or an object: values by path components; None if a value does not extend the path."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[str | None, object]] | None = None) -> None:
        self.items = [] if items is None else items

    def set(self, key: object, value: object) -> None:
        """Add a value under a key; keys that are not short texts are replaced by numbers."""
        if isinstance(key, str):
            text = key
        elif (
            key is None or isinstance(key, (bool, float)) or (isinstance(key, int) and key.bit_length() <= _WIDEST_KEY)
        ):
            text = str(key)
        else:
            text = str(len(self.items))
        self.items.append((text, value))


class Instance(Node):
    """What a call would return: its arguments by number, and the states that were set afterwards under None."""

    __slots__ = ()
