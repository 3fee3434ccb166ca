"""The tensors that a commit changes in a model which has them in pieces, from the pieces that it changes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changed_names import WITH_TAB
from git_theta_ext.model.manifest_lines import name_and_bytes
from git_theta_ext.model.tensor_pieces import tensor_of
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.comparison.changed_names import ChangedNames
    from git_theta_ext.model.manifest_lines import ChangedLines


def by_tensor(names: ChangedNames, files: Sequence[ChangedLines], present: Iterable[str]) -> ChangedNames:
    """Return the tensors that changed. One with other pieces of the same total size is not known to have other values.

    The digests of other pieces say nothing about the whole, and no tensor is read.

    Args:
        names: The names of the pieces that changed.
        files: The lines of all files of the model that changed, with the names of the pieces.
        present: The names of all pieces in these files, in the newer version.
    """
    renamed = {new: old for new, old in names.renamed.items() if tensor_of(new) == new and tensor_of(old) == old}
    pieces = {new: old for new, old in names.renamed.items() if new not in renamed}
    added = {tensor_of(name) for name in (*names.added, *pieces)}
    removed = {tensor_of(name) for name in (*names.removed, *pieces.values())}
    modified = {tensor_of(name) for name in names.modified}
    sizes = [_sizes(line for file in files for line in lines(file)) for lines in (_old, _new)]
    resharded = {name for name in (added & removed) - modified if sizes[0][name] == sizes[1][name]}
    modified |= (added & removed) - resharded
    changed = {*added, *removed, *modified, *renamed}
    return replace(
        names,
        added=tuple(sorted(added - removed - modified)),
        removed=tuple(sorted(removed - added - modified)),
        modified=tuple(sorted(modified)),
        resharded=tuple(sorted(resharded)),
        renamed=renamed,
        unchanged=max(0, len({tensor_of(name) for name in present} - changed) - names.moved),
    )


def _old(file: ChangedLines) -> Sequence[bytes]:
    return file.old


def _new(file: ChangedLines) -> Sequence[bytes]:
    return file.new


def _sizes(lines: Iterable[bytes]) -> Counter[str]:
    """Return the size of the pieces of each tensor."""
    sizes: Counter[str] = Counter()
    for line in lines:
        name, nbytes = name_and_bytes(line[:-WITH_TAB])
        sizes[tensor_of(name)] += nbytes
    return sizes
