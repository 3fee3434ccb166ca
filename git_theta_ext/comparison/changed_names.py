"""The names of the parameters that a commit changes, from the lines in which manifests differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.renames import find_renames
from git_theta_ext.model.manifest_lines import name_and_bytes
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from git_theta_ext.model.manifest_lines import ChangedLines

WITH_TAB = 65
"""Length of a digest and the tab before it."""


@dataclass(frozen=True, slots=True)
class ChangedNames:
    """The parameters that a commit changes in a model.

    Attributes:
        added: Names that are new.
        removed: Names that are gone.
        modified: Names with another value, element type or shape.
        renamed: New name to the old name with the same value.
        moved: Number of parameters that are in another file of the model.
        unchanged: Number of the other parameters in the files that changed.
        nbytes: Size of the values that are new.
        resharded: Names of tensors that are in other pieces, so that it is not known whether their values changed.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    modified: tuple[str, ...]
    renamed: Mapping[str, str]
    moved: int
    unchanged: int
    nbytes: int
    resharded: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether no parameter changed."""
        return not (self.added or self.removed or self.modified or self.renamed or self.moved or self.resharded)

    @property
    def every(self) -> list[str]:
        """The names of all parameters that changed, sorted; that of a renamed one is the new one."""
        return sorted([*self.added, *self.removed, *self.modified, *self.renamed, *self.resharded])


def changed_names(files: Sequence[ChangedLines], chosen: Callable[[str], bool] | None = None) -> ChangedNames:
    """Compare the versions of all files of a model that a commit changes.

    Args:
        files: Their lines.
        chosen: Returns whether a name counts; None for all.

    Raises:
        ManifestError: A line is not valid.
    """
    if all(file.aligned for file in files):
        return _modified(files, chosen)
    old: dict[str, _Value] = {}
    new: dict[str, _Value] = {}
    unchanged = 0
    for file in files:
        unchanged += file.unchanged
        old.update(_values(file.old))
        new.update(_values(file.new))
    renamed = find_renames(_without(old, new), _without(new, old)) if old and new else {}
    was = set(renamed.values())
    if chosen is not None:
        renamed = {name: former for name, former in renamed.items() if chosen(name) or chosen(former)}
        new = {name: value for name, value in new.items() if chosen(name) or name in renamed}
        old = {name: value for name, value in old.items() if chosen(name)}
    modified = [name for name, value in new.items() if name in old and old[name] != value]
    added = [name for name in new if name not in old and name not in renamed]
    removed = [name for name in old if name not in new and name not in was]
    moved = len(new) - len(modified) - len(added) - len(renamed)
    nbytes = sum(new[name][1] for name in (*modified, *added))
    return ChangedNames(tuple(added), tuple(removed), tuple(modified), renamed, moved, unchanged, nbytes)


def _modified(files: Iterable[ChangedLines], chosen: Callable[[str], bool] | None) -> ChangedNames:
    found = [name_and_bytes(line[:-WITH_TAB]) for file in files for line in file.new]
    if chosen is not None:
        found = [each for each in found if chosen(each[0])]
    names, sizes = zip(*found, strict=True) if found else ((), ())
    unchanged = sum(file.unchanged for file in files)
    return ChangedNames((), (), names, {}, 0, unchanged, sum(sizes))


_Value = tuple[bytes, int]


def _values(lines: Iterable[bytes]) -> Iterable[tuple[str, _Value]]:
    for line in lines:
        columns, _, digest = line.rpartition(b"\t")
        name, nbytes = name_and_bytes(columns)
        yield name, (digest, nbytes)


def _without(values: Mapping[str, _Value], others: Mapping[str, _Value]) -> dict[str, _Value]:
    return {name: value for name, value in values.items() if name not in others}
