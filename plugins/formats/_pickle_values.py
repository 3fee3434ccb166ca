"""What a pickle's opcodes build, and what that may cost."""

from __future__ import annotations

from dataclasses import dataclass

from git_theta_ext.errors import FormatError

COST_EACH = 24
"""What a byte of a pickle may cost; those of state dicts cost 6 to 10, an optimizer's up to 16."""
COST_FREE = 1 << 22
"""What any pickle may cost."""
SEQUENCE, NODE = 64, 96
"""What objects cost: about their bytes in memory."""

_WIDEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle imports."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Budget:
    """What reading a pickle of some size may still cost.

    Args:
        nbytes: Size of the pickle.
    """

    __slots__ = ("_left",)

    def __init__(self, nbytes: int) -> None:
        self._left = COST_EACH * nbytes + COST_FREE

    def spend(self, cost: int) -> None:
        """Take what an object costs.

        Raises:
            FormatError: So many objects are in no checkpoint of this size.
        """
        self._left -= cost
        if self._left < 0:
            raise FormatError("a pickle with more objects than a checkpoint of its size has")


class Node:
    """A dictionary or an object: values under path components; None if a value adds nothing to the path."""

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
