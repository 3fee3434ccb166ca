"""Match the names in an update with those of a checkpoint's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.util.text import similar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_LONGEST = 4096


class ParameterNames:
    """Finds parameters by the names that an update gives them.

    A model that was trained inside another one has a prefix more or less than the checkpoint. So if no parameter has
    exactly the name, one that ends with it is taken, or one that it ends with.

    Args:
        names: The checkpoint's parameters.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._by_ending: dict[str, list[str]] = {}
        for name in sorted(self._names):
            for ending in _endings(name) if len(name) <= _LONGEST else ():
                self._by_ending.setdefault(ending, []).append(name)

    def find(self, name: str) -> str | None:
        """Return the parameter that a name of an update means, or None if there is none.

        Raises:
            UsageError: It may mean several.
        """
        if name in self._names:
            return name
        if len(name) > _LONGEST:
            return None
        matches = [*self._by_ending.get(name, ()), *(ending for ending in _endings(name) if ending in self._names)]
        if len(matches) > 1:
            raise UsageError(
                f"the update's {name!r} may mean {matches[0]!r} or {matches[1]!r}",
                hint="rename it in the update to a whole name, as git theta ls-files --params lists them",
            )
        return matches[0] if matches else None

    def get(self, name: str) -> str:
        """Return the parameter that a name of an update means.

        Raises:
            UsageError: There is none, or it may mean several.
        """
        parameter = self.find(name)
        if parameter is None:
            near = similar(name, self._names)
            raise UsageError(
                f"the checkpoint has no parameter {name!r}",
                hint=f"did it mean {near!r}?" if near else "git theta ls-files --params lists its parameters",
            )
        return parameter


def _endings(name: str) -> Iterator[str]:
    """Yield what is behind each dot of a name."""
    at = name.find(".")
    while at >= 0:
        yield name[at + 1 :]
        at = name.find(".", at + 1)
