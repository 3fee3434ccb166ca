"""Write records of merges as trailers, and read them, with what the commits that were merged have."""

from __future__ import annotations

import posixpath
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, PluginError, RepositoryError
from git_theta_ext.git.revisions import are_merged, find_object, independent, merge_bases
from git_theta_ext.merging.record import Record
from git_theta_ext.merging.rules.file import FILE, read_rules
from git_theta_ext.merging.short_record import ShortRecord, is_short
from git_theta_ext.records import replace
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Rules

_LEAST = 2


class MergedCommits:
    """The commits that a merge commit merges: its parents, or those that will be.

    Args:
        repo: The repository.
        commits: Their ids, the current commit first.
        keeps_head: Whether the merge has the current commit as a parent even if the others contain it.
    """

    def __init__(self, repo: Repository, commits: Sequence[str], *, keeps_head: bool = False) -> None:
        self.repo, self.commits, self._keeps_head = repo, tuple(commits), keeps_head

    @cached_property
    def all_parents(self) -> bool:
        """Whether all are parents of the merge: git omits those that another one contains."""
        merged = self.commits[1:] if self._keeps_head else self.commits
        return independent(self.repo, merged)

    @cached_property
    def rules_file(self) -> str | None:
        """Object id of the rules file of the first commit."""
        return find_object(self.repo, f"{self.commits[0]}:{FILE}") if self.commits else None

    @cached_property
    def rules(self) -> Rules:
        """The rules in that file."""
        file = self.rules_file
        return read_rules(None if file is None else self.repo.run("cat-file", "blob", file))

    @cached_property
    def _ancestors(self) -> tuple[str | None, ...]:
        """The common ancestor; for several ones, those that git may have merged them into."""
        for commit in self.commits:
            if find_object(self.repo, f"{commit}^{{commit}}") is None:
                hint = "git fetch --unshallow"
                raise RepositoryError(f"commit {commit[:12]}, which was merged, is not in this repository", hint=hint)
        bases = merge_bases(self.repo, self.commits)
        if len(bases) <= 1:
            return (next(iter(bases), None),)
        from git_theta_ext.git.merge_tree import common_ancestor  # the hook of most merges starts without it

        # In the order of our strategy, and in that of git's own.
        return tuple(common_ancestor(self.repo, order) for order in (bases, bases[::-1]))

    def at(self, path: str) -> Iterator[tuple[str | None, tuple[str, ...]]]:
        """Yield the object ids that these commits have at a path: files, then directories of models.

        Args:
            path: Path of a checkpoint, or name of a model of several files.

        Yields:
            The common ancestor's id, None if it has no such object, and the id of each side.

        Raises:
            RepositoryError: A commit is missing, as in a shallow clone.
        """
        for name in (path, posixpath.dirname(path)) if len(self.commits) >= _LEAST else ():
            ancestors = self._ancestors
            oids = [find_object(self.repo, f"{commit}:{name}") for commit in self.commits]
            sides = tuple(oid for oid in oids if oid is not None)
            if len(sides) == len(oids):
                for ancestor in ancestors:
                    yield None if ancestor is None else find_object(self.repo, f"{ancestor}:{name}"), sides


def trailer_text(merged: MergedCommits, record: Record) -> str:
    """Return the text of a record: the short form if the merged commits have all else, or JSON."""
    whole = record.to_json()
    for rules_file in dict.fromkeys((None, merged.rules_file)) if merged.all_parents else ():
        text = ShortRecord.of(record, rules_file).to_text()
        try:
            restored = read_record(merged, text)
        except (MergeError, PluginError):
            continue
        if restored.to_json() == whole:
            return text
    return whole


def read_record(merged: MergedCommits, text: str) -> Record:
    """Return the record that a trailer has.

    If history was rewritten, the commits of the record are those that have the versions that were merged now.

    Args:
        merged: The parents of its commit.
        text: The value of the trailer.

    Raises:
        MergeError: The text is not a valid record, or a short one of another merge.
        PluginError: A method is not installed.
        RepositoryError: A parent is missing, as in a shallow clone.
    """
    if not is_short(text):
        record = Record.from_json(text)
        if are_merged(merged.repo, record.commits, merged.commits):
            return record
        rewritten = (record.base, record.sides) in merged.at(record.path)
        return replace(record, commits=merged.commits) if rewritten else record
    short = ShortRecord.from_text(text)
    rules, file = (merged.rules, merged.rules_file) if short.rules is None else (short.rules, None)
    for base, sides in merged.at(short.path):
        restored = short.restored(base, sides, merged.commits, rules, file)
        if restored is not None:
            return restored
    raise MergeError(
        f"the record of {shown_path(short.path)} is a copy of another merge's record, of other versions or other rules",
        hint="git commit --amend removes it from the current commit",
    )
