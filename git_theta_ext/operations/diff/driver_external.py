"""Name the tensors of external data for git's diff driver, which gets one file at a time.

Another file of the directory has the names, and git does not pass it. Its versions are those of the same diff, so they
are known only if the command of git is: if it is ``git diff`` without options that are unknown here, and the call is
one that this command makes. With any other command the file is compared by its chunks.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import has_external_data
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.git.raw_diff import Compared, changes
from git_theta_ext.operations.diff.external import ExternalSide, join_external_data
from git_theta_ext.operations.diff.git_call import call_for, compared_by, same
from git_theta_ext.operations.diff.trees import read_trees

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.git.raw_diff import FileChange
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.diff.git_call import DiffCall
    from git_theta_ext.operations.diff.sides import Side
    from git_theta_ext.operations.workspace import Workspace


def by_tensors(workspace: Workspace, call: DiffCall, old: Side, new: Side) -> tuple[Side, Side]:
    """Return both versions of a file with the tensors in it, or as they are if its tensors are not known.

    Args:
        workspace: The repository and its store.
        call: The call that git makes for the file.
        old: The older version.
        new: The newer version.
    """
    with suppress(ThetaError, OSError):  # chunks can be compared
        compared = _compared(workspace.repo, call)
        found = () if compared is None else changes(workspace.repo, compared).files
        own = next((change for change in found if same(call_for(change), call)), None)
        if compared is not None and own is not None:
            known = {entry: side for entry, side in ((own.old, old), (own.new, new)) if entry is not None}
            files = [own, *(change for change in _owners(workspace.repo, found) if change is not own)]
            trees = read_trees(workspace, compared, files, known)
            join_external_data(workspace.store, *trees)
            named = trees[0].checkpoints.get(call.path, old), trees[1].checkpoints.get(call.new_path, new)
            if all(isinstance(side, ExternalSide) or side.manifest is None for side in named):
                return named
    return old, new


def _compared(repo: Repository, call: DiffCall) -> Compared | None:
    """Return what git compares, in the directories of a file; None if the command is not known."""
    compared = compared_by(next(calling_commands(os.getppid()), ()))
    if compared is None:
        return None
    if not compared.separated:
        compared = Compared.of(repo, compared.revisions, None, cached=compared.cached)
    folders = sorted({posixpath.dirname(path) for path in (call.path, call.new_path)})
    return compared.within(folders)


def _owners(repo: Repository, files: Sequence[FileChange]) -> Iterator[FileChange]:
    """Yield the files of which a version may say where tensors are in other files."""
    entries = [entry for change in files for entry in (change.old, change.new) if entry is not None]
    manifests = read_manifests(repo, {entry.oid: entry.path for entry in entries if entry.oid.strip("0")})
    for change in files:
        known = [manifests.get(entry.oid) for entry in (change.old, change.new) if entry is not None]
        formats = {manifest.format for manifest in known if manifest is not None}
        if not formats or any(map(has_external_data, formats)):
            yield change
