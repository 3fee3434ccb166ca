"""Match the names in an update with those of a checkpoint's parameters."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_LONGEST = 4096


class ParameterNames:
    """Finds parameters by the names that an update gives them.

    A model that was trained inside another one has a prefix more or less than the checkpoint. So if no parameter has
    exactly the name, one that ends with it is taken, or one that it ends with.

    Args:
        known: The checkpoint's parameters.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = set(known)
        self._by_ending: dict[str, list[str]] = {}
        for name in sorted(self._known):
            for ending in _endings(name) if len(name) <= _LONGEST else ():
                self._by_ending.setdefault(ending, []).append(name)

    def find(self, name: str) -> str | None:
        """Return the parameter that a name of an update means, or None if there is none.

        Raises:
            UsageError: It may mean several.
        """
        if name in self._known:
            return name
        if len(name) > _LONGEST:
            return None
        found = [*self._by_ending.get(name, ()), *(ending for ending in _endings(name) if ending in self._known)]
        if len(found) > 1:
            raise UsageError(
                f"the update's {name!r} may mean {found[0]!r} or {found[1]!r}",
                hint="rename it in the update to the whole name of the parameter",
            )
        return found[0] if found else None

    def get(self, name: str) -> str:
        """Return the parameter that a name of an update means.

        Raises:
            UsageError: There is none, or it may mean several.
        """
        found = self.find(name)
        if found is None:
            near = difflib.get_close_matches(name, self._known, 1)
            raise UsageError(
                f"the checkpoint has no parameter {name!r}",
                hint=f"did it mean {near[0]!r}?" if near else "is it an update of another model?",
            )
        return found


def _endings(name: str) -> Iterator[str]:
    """Yield what is behind each dot of a name."""
    at = name.find(".")
    while at >= 0:
        yield name[at + 1 :]
        at = name.find(".", at + 1)
