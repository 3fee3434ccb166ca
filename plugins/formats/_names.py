"""Names for parameters: those that collide are numbered."""

from __future__ import annotations


class FreeNames:
    """The names that are taken; another parameter of the same name gets a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """Return a name that is not taken yet, and take it."""
        name = wanted
        while name in self._taken:
            self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            name = f"{wanted}#{self._numbers[wanted]}"
        self._taken.add(name)
        return name
