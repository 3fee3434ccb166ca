"""The calls that git makes for its external diff, and the command that makes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.raw_diff import Compared
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.raw_diff import FileChange

_SHORT, _LONG = 7, 9
_CACHED = frozenset({"--cached", "--staged"})
_SAME_FILES = frozenset({"-p", "-u", "--patch", "--ext-diff", "--color", "--no-color", "--exit-code", "-w", "-b"})
"""Options of ``git diff`` that change neither which files differ nor what the driver prints."""


@dataclass(frozen=True)
class Version:
    """A version of a file, as git passes it.

    Attributes:
        file: A file with the content, relative to the top of the work tree; ``/dev/null`` if there is no such version.
        oid: Object id; zeros for a file of the work tree.
        mode: As ``100644``.
    """

    file: str
    oid: str
    mode: str

    @property
    def stored(self) -> bool:
        """Whether git has the content as an object."""
        return bool(self.oid.strip("0."))


@dataclass(frozen=True)
class DiffCall:
    """Two versions of a checkpoint that git asks the diff driver to compare.

    Attributes:
        path: Path of the older version.
        new_path: Path of the newer version.
        old: The older version.
        new: The newer version.
        renamed: Whether git found that the file was renamed or copied.
    """

    path: str
    new_path: str
    old: Version
    new: Version
    renamed: bool

    @classmethod
    def of(cls, words: Sequence[str]) -> Self:
        """Return a call.

        Args:
            words: As git gives them: path, old file, old id, old mode, new file, new id, new mode, and for a renamed
                file its new path and git's own headline.

        Raises:
            UsageError: The number of words is none that git gives.
        """
        if len(words) not in (_SHORT, _LONG):
            hint = "git diff calls this command itself"
            raise UsageError(f"{len(words)} arguments; git passes 1, 7 or 9", hint=hint)
        old, new = Version(*words[1:4]), Version(*words[4:7])
        return cls(words[0], words[_SHORT] if words[_SHORT:] else words[0], old, new, bool(words[_SHORT:]))


def compared_by(words: Sequence[str]) -> Compared | None:
    """Return what a command of git compares; None if it is not ``git diff``, or has options that are not known here.

    Args:
        words: The command, without ``git`` and its own options.
    """
    if words[:1] != ("diff",):
        return None
    count = words.index("--") if "--" in words else len(words)
    options = {word for word in words[1:count] if word.startswith("-")}
    if options - _CACHED - _SAME_FILES:
        return None
    revisions = tuple(word for word in words[1:count] if not word.startswith("-"))
    return Compared(revisions, tuple(words[count + 1 :]), bool(options & _CACHED), separated="--" in words)


def call_for(change: FileChange) -> DiffCall:
    """Return the call that git makes for a file that differs."""
    paths = [entry.path for entry in (change.old, change.new) if entry is not None]
    versions = [
        Version(os.devnull, ".", ".") if entry is None else Version(_file(entry), entry.oid, entry.mode)
        for entry in (change.old, change.new)
    ]
    return DiffCall(paths[0], paths[-1], versions[0], versions[1], paths[0] != paths[-1])


def _file(entry: TreeEntry) -> str:
    """Return the file with a version: the one in the work tree, or one that git will make for its call."""
    return "" if entry.oid.strip("0") else entry.path


def same(one: DiffCall, other: DiffCall) -> bool:
    """Return whether two calls are for the same versions of the same file."""
    keys = [
        (call.path, call.new_path, call.old.oid, call.old.mode, call.new.oid, call.new.mode) for call in (one, other)
    ]
    return keys[0] == keys[1]
