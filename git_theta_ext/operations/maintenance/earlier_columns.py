"""Keep the digests of earlier versions as columns, to find the parents of many tensors that change together at once."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from operator import eq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from git_theta_ext.model.parameters import Parameters
    from git_theta_ext.model.tensor import Digest

_FARTHEST = 64
"""Number of versions to look back. Tensors that changed too seldom are looked up one by one."""


class _Layout:
    """The versions that have the same names and specs.

    Attributes:
        columns: One of them, which keeps the specs alive.
        at_paths: The digests of each, oldest first, by path.
        anywhere: The digests of all, oldest first.
        alone: Whether no version with other names or specs has one of the names.
    """

    __slots__ = ("alone", "anywhere", "at_paths", "columns")

    def __init__(self, columns: Parameters) -> None:
        self.columns = columns
        self.at_paths: dict[str, list[Sequence[Digest]]] = defaultdict(list)
        self.anywhere: list[Sequence[Digest]] = []
        self.alone = True


class EarlierColumns:
    """The digests of the versions that were added, oldest first."""

    def __init__(self) -> None:
        self._layouts: dict[Hashable, _Layout] = {}
        self._layout_of: dict[str, _Layout] = {}

    def add(self, path: str, columns: Parameters) -> None:
        """Add a version."""
        layout = self._layouts.setdefault(_key(columns), _Layout(columns))
        if not layout.anywhere:
            for other in set(map(self._layout_of.get, columns.names)):
                if other is not None:
                    other.alone = layout.alone = False
            self._layout_of.update(dict.fromkeys(columns.names, layout))
        layout.at_paths[path].append(columns.digests)
        layout.anywhere.append(columns.digests)

    def before(
        self, path: str, columns: Parameters, replaced: Iterable[Parameters]
    ) -> tuple[list[Sequence[Digest]], bool] | None:
        """Return the digests of the versions before one, the likeliest parents first.

        Args:
            path: Path of the version.
            columns: Its parameters.
            replaced: Those of the versions that it replaces.

        Returns:
            The digests in the order of the parameters, and whether there are more versions; None if parameters of these
            names had other specs, or were next to other parameters.
        """
        if not self._layouts:
            return [], False
        layout = self._layouts.get(_key(columns))
        if layout is None or not layout.alone:
            return None
        here = layout.at_paths[path]
        others = layout.anywhere if len(layout.at_paths) > 1 else []
        alike = [one.digests for one in replaced if one.names == columns.names and one.specs == columns.specs]
        first = alike if not here or alike != [here[-1]] else []
        found = [*first, *islice(reversed(here), _FARTHEST), *islice(reversed(others), _FARTHEST)]
        return found, max(len(here), len(others)) > _FARTHEST


def distinct(
    digests: Sequence[Digest], places: Sequence[int], earlier: Iterable[Sequence[Digest]], most: int
) -> list[list[Digest]] | None:
    """Return the earlier values of some tensors, each once.

    Args:
        digests: Digests of the tensors.
        places: Where their values are in an earlier version.
        earlier: Digests of earlier versions.
        most: The number of values that are enough.

    Returns:
        The digests of the tensors in earlier versions; None if some changed in a version and others did not.
    """
    found = [[*digests]]
    for version in earlier:
        values = [version[place] for place in places]
        if values in found:
            continue
        if any(any(map(eq, values, other)) for other in found):
            return None
        found.append(values)
        if len(found) > most:
            break
    return found[1:]


def _key(columns: Parameters) -> Hashable:
    # Equal specs are mostly the same object, and comparing objects takes less time.
    return tuple(columns.names), tuple(map(id, columns.specs))
