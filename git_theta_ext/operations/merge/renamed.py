"""Merge a checkpoint that one side changed and the other renamed, with so many other values that git sees no rename.

Git then has the old path as deleted by one side and changed by the other, and the new path as an added file. Names,
element types and shapes of the parameters show that both are one model.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ChangedError, ThetaError, UsageError
from git_theta_ext.git.entries import TreeEntry, update_index
from git_theta_ext.git.objects import read_manifests, read_objects, write_blob
from git_theta_ext.git.operation import stopped_operation
from git_theta_ext.git.pathspecs import is_within, worktree_of
from git_theta_ext.git.revisions import check_two_sides, head_of, merge_heads
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.model.shards import model_name
from git_theta_ext.operations.merge.merged_trees import trees_in_progress
from git_theta_ext.operations.merge.model_resolve import FinishedModel
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace

_BASE, _OURS, _THEIRS = 1, 2, 3
_MARKER_SIZE = "7"
_LEAST_ALIKE = 0.5
"""The share of parameters with the same name, type and shape from which on a new file is a renamed one, as git's."""


@dataclass(frozen=True)
class OneSided:
    """A path in conflict that one side changed, and the other deleted or renamed.

    Attributes:
        path: The path.
        base: Object id of the common ancestor's version.
        kept: That of the side which has the path.
        keeper: The stage of that side in the index.
    """

    path: str
    base: str
    kept: str
    keeper: int

    @property
    def deleter(self) -> str:
        """The side that deleted or renamed the path, for people."""
        return "theirs" if self.keeper == _OURS else "ours"

    @classmethod
    def of(cls, path: str, stages: Mapping[int, str]) -> OneSided | None:
        """Return the path if one side alone has it, and the common ancestor too."""
        keepers = stages.keys() & {_OURS, _THEIRS}
        if len(keepers) != 1 or _BASE not in stages:
            return None
        (keeper,) = keepers
        return cls(path, stages[_BASE], stages[keeper], keeper)


def renamed_to(repo: Repository, path: str) -> str | None:
    """Return the path to which one side renamed a checkpoint that the other side changed; None if it deleted it.

    Args:
        repo: The repository.
        path: A path in conflict.

    Raises:
        ManifestError: A version is not a valid manifest.
    """
    conflict = OneSided.of(path, unmerged(repo).get(path, {}))
    if conflict is None:
        return None
    base = read_manifests(repo, {conflict.base: path}).get(conflict.base)
    added = dict(_added(repo, conflict))
    if base is None or not added:
        return None
    manifests = read_manifests(repo, {oid: name for name, oid in added.items()})
    scores = {name: _likeness(base, manifests[oid]) for name, oid in added.items() if oid in manifests}
    best = max(
        scores, key=lambda name: (scores[name], posixpath.basename(name) == posixpath.basename(path)), default=""
    )
    return best if best and scores[best][0] >= _LEAST_ALIKE else None


def _added(repo: Repository, conflict: OneSided) -> Iterator[tuple[str, str]]:
    """Yield path and object id of the files that the side without the path added, as far as the merge has them.

    A side that divided a model into shards, or joined these, did not rename it.
    """
    for trees in trees_in_progress(repo):
        if trees.base is None or len(trees.sides) != 2:  # noqa: PLR2004 - ours and theirs
            continue
        keeper, deleter = trees.sides if conflict.keeper == _OURS else trees.sides[::-1]
        entry = repo.entry(keeper, conflict.path)
        if entry is None or entry.oid != conflict.kept or repo.entry(deleter, conflict.path) is not None:
            continue
        before = {each.path for each in repo.entries(trees.base)}
        index = {each.path for each in repo.entries(None) if not each.stage}
        for each in repo.entries(deleter):
            divided = (model_name(each.path) == each.path) != (model_name(conflict.path) == conflict.path)
            if each.regular and each.path in index and each.path not in before and not divided:
                yield each.path, each.oid
        return


def _likeness(base: Manifest, manifest: Manifest) -> tuple[float, int]:
    """Return the share of parameters that two checkpoints both have, and how many values are the same."""
    if base.format != manifest.format:
        return 0.0, 0
    old, new = base.parameters, manifest.parameters
    both = [name for name, parameter in new.items() if name in old and old[name].spec == parameter.spec]
    return len(both) / max(len(old), len(new), 1), sum(old[name].digest == new[name].digest for name in both)


def renames(repo: Repository, old: str, new: str) -> dict[str, str]:
    """Return old and new path of the checkpoints to merge, if a file or a directory was renamed.

    Args:
        repo: The repository.
        old: A path in conflict, or a directory with such paths.
        new: Its new path.

    Raises:
        UsageError: There is no such conflict, or not the new file.
    """
    found = {
        path: new if path == old else posixpath.join(new, posixpath.relpath(path, old))
        for path, stages in unmerged(repo).items()
        if is_within(path, old) and OneSided.of(path, stages) is not None
    }
    if not found:
        raise UsageError(
            f"{repo.shown(old)} has no conflict of a side that deleted or renamed it with one that changed it",
            hint="git theta status",
        )
    for path in found.values():
        if repo.entry(None, path) is None:
            raise UsageError(f"{repo.shown(path)} is not staged without a conflict", hint="git theta status")
    return found


def merge_renamed(workspace: Workspace, old: str, new: str) -> FinishedModel:
    """Merge the versions of a checkpoint that one side renamed, under the new path, and stage it.

    Args:
        workspace: The repository and its store.
        old: The path in conflict.
        new: The path to which a side renamed it.

    Raises:
        ChangedError: A file was changed since the merge.
        ManifestError: A version is not a valid manifest.
        ThetaError: The versions cannot be merged.
    """
    from git_theta_ext.operations.merge.checkpoint_driver import answer_checkpoint
    from git_theta_ext.operations.merge.driver_call import DriverCall

    repo = workspace.repo
    check_two_sides(repo, old)
    conflict = OneSided.of(old, unmerged(repo)[old])
    entry = repo.entry(None, new)
    if conflict is None or entry is None:
        raise UsageError(f"{repo.shown(old)} and {repo.shown(new)} cannot be merged", hint="git theta status")
    _check_unchanged(repo, {old: conflict.kept, new: entry.oid})
    sides = (conflict.kept, entry.oid) if conflict.keeper == _OURS else (entry.oid, conflict.kept)
    versions = (conflict.base, *sides)
    contents = dict(read_objects(repo, dict.fromkeys(versions)))
    heads = [head for head in (head_of(repo), *merge_heads(repo)) if head is not None]
    call = DriverCall(new, [contents[oid] for oid in versions], _MARKER_SIZE, heads, stopped_operation(repo))
    answer = answer_checkpoint(workspace, call)
    no_object = "0" * 2 * repo.oid_bytes
    entries = [TreeEntry(path, no_object, "0") for path in (old, new)]
    if answer.conflicted:
        entries += [TreeEntry(new, oid, entry.mode, stage) for stage, oid in enumerate(versions, _BASE)]
    else:
        entries.append(TreeEntry(new, write_blob(repo, answer.content), entry.mode))
    update_index(repo.run, entries)
    top = worktree_of(repo)
    if answer.conflicted:
        with reporting_os_errors(top / new):
            replace_content(top / new, answer.content)
    else:
        repo.run("checkout-index", "--force", "--index", "-z", "--stdin", input=os.fsencode(new) + b"\0")
    with reporting_os_errors(top / old), suppress(FileNotFoundError):
        (top / old).unlink()
    with suppress(OSError):  # up to a directory with other files, as git does
        for folder in (top / old).parents:
            folder.rmdir()
    done, left = ((), (new,)) if answer.conflicted else ((new,), ())
    return FinishedModel(new, done, left, (old,))


def _check_unchanged(repo: Repository, versions: Mapping[str, str]) -> None:
    """Check that files have the versions that the merge wrote, since they are overwritten or removed."""
    for path, oid in versions.items():
        full = worktree_of(repo) / path
        if full.is_file() and repo.run("hash-object", "--", path, cwd=worktree_of(repo)).decode().strip() != oid:
            raise ChangedError(
                f"{repo.shown(path)} was changed since the merge, which would overwrite it",
                hint=f"git stash push {repo.argument(path)}, or git theta add {repo.argument(path)}",
            )


def warn_of_renamed(workspace: Workspace) -> None:
    """Report checkpoints that one side changed and the other renamed, in a merge that just stopped.

    Raises:
        ThetaError: A version is broken, or git cannot read a commit.
    """
    repo = workspace.repo
    for path in [path for path, stages in unmerged(repo).items() if OneSided.of(path, stages) is not None]:
        with suppress(ThetaError):
            if (new := renamed_to(repo, path)) is not None:
                workspace.reporter.warning(
                    f"{shown_path(path)} was renamed to {shown_path(new)}, which has the same parameters, "
                    "and both sides changed it",
                    command_for(repo, path, new),
                )


def command_for(repo: Repository, old: str, new: str) -> str:
    """Return the command that merges a renamed checkpoint."""
    return f"git theta resolve --renamed-to {repo.argument(new)} {repo.argument(old)}"
