"""Git's merge driver for checkpoints (gitattributes, "Defining a custom merge driver").

Git passes three manifests as files and reads the result from the second one. It also calls the driver for virtual
ancestors, and uses the result whatever the exit code, so it must be a manifest that is made without arithmetic.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError, ThetaError
from git_theta_ext.git.answers import DRAFTS
from git_theta_ext.git.merge_file import merge_file
from git_theta_ext.git.operation import FROM_INDEX, MERGE, current_operation, merged_commits
from git_theta_ext.git.path_attributes import marker_size
from git_theta_ext.git.process import NESTED
from git_theta_ext.git.revisions import check_two_sides
from git_theta_ext.model.manifest import MAX_MANIFEST, is_manifest
from git_theta_ext.model.shards import is_text
from git_theta_ext.operations.merge.checkpoint_driver import answer_ancestor, answer_checkpoint
from git_theta_ext.operations.merge.driver_ahead import answer_ahead
from git_theta_ext.operations.merge.driver_call import DriverCall, KeptAnswers
from git_theta_ext.operations.merge.model_driver import answer_model
from git_theta_ext.operations.merge.record import leave_for_hook
from git_theta_ext.operations.merge.rules import warn_of_former_settings
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.merge.driver_call import Answer
    from git_theta_ext.operations.workspace import Workspace


CLEAN = 0
CONFLICT = 1
CRASHED = 129
"""From this exit code on, git 2.42 stops the whole merge instead of leaving a conflict."""

_ANCESTORS = 2
"""Markers are longer by this for each level of common ancestors that git itself merges; for renames by one."""


def run(words: Sequence[str], workspace: Workspace) -> int:
    """Merge a checkpoint for git.

    Args:
        words: The values of ``%O %A %B %L %P``: files with the ancestor's, our and their manifest, the size of conflict
            markers, and the checkpoint's path.
        workspace: The repository and its store.

    Returns:
        0 for a clean merge or an ancestor, 1 for a merge with conflicts, 129 if the result could not be stored. In the
        first two cases our file has a manifest, unless a side is not a manifest; then it is unchanged.
    """
    base_file, ours_file, theirs_file, size, path = words
    repo, ours = workspace.repo, Path(ours_file)
    virtual, nested = int(size) - marker_size(repo.run, path) >= _ANCESTORS, NESTED in os.environ
    try:
        contents = [_content(name, whole=is_text(path)) for name in (base_file, ours_file, theirs_file)]
        heads, operation = merged_commits(repo), MERGE if virtual else current_operation(repo)
        if operation.name in FROM_INDEX:
            check_two_sides(repo, path)
        meanwhile = partial(_conflicts_meanwhile, ours, contents[1])
        call = DriverCall(path, contents, size, heads, operation, meanwhile)
        if not virtual:
            warn_of_former_settings(workspace.settings, workspace.reporter)
        answered = None if virtual or nested else answer_model(workspace, call)
        if answered is None and is_text(path):
            return merge_file(repo, ours_file, base_file, theirs_file)
        answered = answered or (answer_ancestor if virtual else answer_checkpoint)(workspace, call)
        _write(ours, answered.content)
    except ThetaError as error:
        hint = error.hint or f"git checkout --ours {repo.argument(path)}, or --theirs"
        workspace.reporter.error(ThetaError(f"{shown_path(path)}: {error.message}; our version is kept", hint=hint))
        return CRASHED if isinstance(error, StoreError) else CONFLICT
    if not virtual and not nested:
        merged = {path: answered}
        with suppress(ThetaError):
            merged |= answer_ahead(workspace, call)
        if (answers := KeptAnswers.of(repo)) is not None:
            answers.give_in_shell(repo)
            if operation.name == MERGE.name:
                _give_drafts(workspace, answers.git, merged)
                with suppress(ThetaError):
                    leave_for_hook(repo, answers.git, heads)
    return CONFLICT if answered.conflicted else CLEAN


def _give_drafts(workspace: Workspace, git: str, merged: Mapping[str, Answer]) -> None:
    folder = workspace.repo.git_dir.joinpath(*DRAFTS, git)
    if folder.is_dir():
        from git_theta_ext.operations.merge.drafts import give_drafts_in_shell  # merges that take values have none

        give_drafts_in_shell(workspace, git, folder, merged)
    if folder.is_dir():  # there are large ones
        from git_theta_ext.operations.merge.replaced_files import free_meanwhile

        free_meanwhile(workspace, git, folder, merged)


def _content(name: str, *, whole: bool) -> bytes:
    with Path(name).open("rb") as file:
        data = file.read(64)
        if whole or is_manifest(data):
            data += file.read(MAX_MANIFEST)
    return data


def _write(file: Path, data: bytes) -> None:
    with reporting_os_errors(file):
        replace_content(file, data)


@contextmanager
def _conflicts_meanwhile(file: Path, ours: bytes, conflicts: Callable[[], Manifest]) -> Iterator[None]:
    """Write a manifest to our file in which the values that are being computed are conflicts.

    If the driver is killed, git leaves the file in the work tree. If the file had our version, the next
    ``git commit --all`` would lose theirs.
    """
    with suppress(ThetaError):
        _write(file, conflicts().to_bytes())
    try:
        yield
    except ThetaError:
        with suppress(StoreError):
            _write(file, ours)
        raise
