"""Find the files that differ between two commits, the index and the work tree, as ``git diff`` names these."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.git.entries import TreeEntry
from git_theta_ext.git.revisions import find_object, objects_of, unshallow_hint
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.git.repository import Repository

# Git would otherwise run the clean filter, which stores tensors, on each file whose stat data changed.
_QUICK = ("-c", "diff.autoRefreshIndex=false")
_RAW = ("diff", "--raw", "-z", "--no-abbrev", "--no-ext-diff", "--no-color", "--no-relative", "--ignore-submodules=all")
_ABSENT = "000000"
_SEVERAL = re.compile(r"\.\.|\^[@!-]")
"""What a revision that names several objects has in it, such as ``A..B``."""


@dataclass(frozen=True)
class FileChange:
    """A file that differs; the object id of a version is zero if it is a file of the work tree.

    Attributes:
        old: The earlier version; None if there is none.
        new: The later version; None if there is none.
    """

    old: TreeEntry | None
    new: TreeEntry | None


@dataclass(frozen=True)
class Changes:
    """The files that differ.

    Attributes:
        files: The files, sorted by path.
        unmerged: Paths in conflict.
    """

    files: tuple[FileChange, ...]
    unmerged: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """What ``git diff`` compares.

    Attributes:
        revisions: Revisions as the user typed them, such as ``v1..v2``; without one, the index and the work tree.
        paths: Pathspecs relative to the user's directory; all files if empty.
        cached: Whether the index is compared with a commit.
        separated: Whether the user told revisions from paths by ``--``.
        objects: Ids of the objects that the revisions name, if git was asked already.
    """

    revisions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    cached: bool = False
    separated: bool = True
    objects: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, repo: Repository, words: Sequence[str], paths: Sequence[str] | None, *, cached: bool = False
    ) -> Compared:
        """Tell revisions from paths.

        Args:
            repo: The repository.
            words: Revisions, and also paths if ``paths`` is None.
            paths: What followed ``--``; None if there was no ``--``.
            cached: Whether the index is compared with a commit.

        Raises:
            UsageError: A word looks like an option.
        """
        if options := [word for word in words if word.startswith("-")]:
            raise UsageError(f"{options[0]} is no revision", hint="git theta diff -h")
        if paths is not None:
            return cls(tuple(words), tuple(paths), cached)
        objects = tuple(objects_of(repo, words))
        if len(objects) == len(words) and not any(map(_SEVERAL.search, words)):
            return cls(tuple(words), (), cached, separated=False, objects=objects)
        count = next((number for number, word in enumerate(words) if not objects_of(repo, [word])), len(words))
        return cls(tuple(words[:count]), tuple(words[count:]), cached, separated=False)

    def within(self, folders: Iterable[str]) -> Compared:
        """Return the same revisions, limited to directories relative to the top."""
        specs = [f":(top,literal){folder}" if folder else ":(top)" for folder in folders]
        return Compared(self.revisions, tuple(specs), self.cached, objects=self.objects)

    def with_worktree(self, repo: Repository) -> bool:
        """Return whether the newer version is the work tree."""
        return not self.cached and len(self._objects(repo)) < 2  # noqa: PLR2004 - as below

    def unchanged_in(self, repo: Repository) -> str | None:
        """Return the tree that has all files which do not differ; None if it is the index."""
        objects = self._objects(repo)
        if len(objects) < 2:  # noqa: PLR2004 - one revision is compared with the index or the work tree
            return None
        newer = [oid for oid in objects if not oid.startswith("^")][-1]
        return find_object(repo, f"{newer}^{{tree}}") or ""

    def _objects(self, repo: Repository) -> Sequence[str]:
        return objects_of(repo, self.revisions) if self.objects is None else self.objects


def changes(repo: Repository, compared: Compared, cwd: Path | None = None) -> Changes:
    """Return the files that differ.

    A file of the work tree whose stat data changed counts, even if its content may be the same.

    Args:
        repo: The repository.
        compared: The versions.
        cwd: The directory that pathspecs are relative to; the current one if None.

    Raises:
        RepositoryError: A word is neither a revision nor a path, or could be both; the message is git's.
        UsageError: More than two versions are compared.
    """
    cached = ("--cached",) if compared.cached else ()
    separator = ("--",) if compared.separated else ()
    words = (*_QUICK, *_RAW, *cached, *compared.revisions, *separator, *compared.paths)
    try:
        output = repo.run(*words, cwd=cwd or Path.cwd())
    except RepositoryError as error:
        raise RepositoryError(error.message, hint=error.hint or unshallow_hint(repo)) from error
    files, unmerged = [], []
    fields = iter(os.fsdecode(output).split("\0")[:-1])
    for field in fields:
        if field.startswith("::"):
            raise UsageError("more than two versions are compared", hint="git theta diff HEAD^1 HEAD")
        old_mode, new_mode, old_oid, new_oid, status = field[1:].split(" ")
        path = next(fields)
        new_path = next(fields) if status[0] in "RC" else path
        if status == "U":
            unmerged.append(path)
            continue
        old = None if old_mode == _ABSENT or status[0] == "C" else TreeEntry(path, old_oid, old_mode)
        new = None if new_mode == _ABSENT else TreeEntry(new_path, new_oid, new_mode)
        files.append(FileChange(old, new))
    return Changes(tuple(files), tuple(dict.fromkeys(unmerged)))
