"""Check that a recorded merge can be repeated, and find the versions that it merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.git.merge_tree import common_ancestor
from git_theta_ext.git.objects import ObjectInfo, object_infos
from git_theta_ext.git.revisions import are_merged, merge_bases
from git_theta_ext.merging.record import versions_of
from git_theta_ext.registry import find_merge
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.record import Record


def check_record(repo: Repository, commit: str, record: Record, parents: Iterable[str]) -> None:
    """Check that a record belongs to a commit, and that its methods are installed.

    Args:
        repo: The repository.
        commit: The commit, as the user names it.
        record: A record in its message.
        parents: The commit's parents.

    Raises:
        MergeError: The record is that of another merge, or another version of a method is installed.
    """
    if not are_merged(repo, record.commits, parents):
        raise MergeError(
            f"{commit} has a copy of another merge's record: that merge of {shown_path(record.path)} had the parents"
            f" {' and '.join(parent[:12] for parent in record.commits)}",
            hint="git commit --amend removes it from the current commit",
        )
    installed = versions_of(record.versions)
    for name, version in record.versions.items():
        if installed.get(name) != version:
            raise MergeError(
                f"{shown_path(record.path)} was merged by version {version} of {name!r};"
                f" the installed version is {installed.get(name)}",
                hint=f"install git-theta {record.tool}, which made the merge",
            )


def recorded_objects(repo: Repository, record: Record) -> dict[str, ObjectInfo]:
    """Return the objects that were merged; a common ancestor that git itself merged is merged again."""
    wanted = {*record.sides, *([] if record.base is None else [record.base])}
    infos = object_infos(repo, wanted)
    if record.base is not None and record.base not in infos:
        bases = merge_bases(repo, record.commits)
        for order in (bases, bases[::-1]):  # the order of our strategy, and that of git's own ones
            common_ancestor(repo, order)
        infos = object_infos(repo, wanted)
    return infos


def inexact_methods(record: Record) -> tuple[str, ...]:
    """Return the methods of a record that do not guarantee the same bits on every machine."""
    return tuple(name for name in record.versions if not find_merge(name).contract.exact)
