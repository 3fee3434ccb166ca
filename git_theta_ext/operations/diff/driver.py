"""Git's external diff for checkpoints (git documentation, "GIT_EXTERNAL_DIFF").

A side is given as a file and an object id. The file holds a manifest, or the checkpoint itself where git reuses a file
of the work tree; so what has an id is read by that, and only the rest from the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.errors import UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.shards import model_name
from git_theta_ext.model.units import LORA
from git_theta_ext.operations.diff.measuring import measure_modified
from git_theta_ext.operations.diff.sides import Side, side_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.operations.workspace import Workspace

_SHORT, _LONG = 7, 9


def diff_versions(words: Sequence[str], workspace: Workspace) -> ModelChange | None:
    """Compare two versions of a checkpoint.

    Args:
        words: As git gives them: path, old file, old id, old mode, new file, new id, new mode, and for a renamed file
            its new path and git's own headline.
        workspace: The repository and its store.

    Returns:
        None if they do not differ.

    Raises:
        UsageError: The number of words is none that git gives.
        FormatError: A version breaks its format.
        ManifestError: A version is a broken manifest.
    """
    if len(words) not in (_SHORT, _LONG):
        raise UsageError(f"{len(words)} arguments; git passes 1, 7 or 9", hint="git diff calls this command itself")
    path, old_file, old_oid, old_mode, new_file, new_oid, new_mode, *renamed = words
    new_path = renamed[0] if renamed else path
    formats = theta_paths(workspace.repo.run, [path, new_path])
    old = _side(workspace, (path, old_file, old_oid), formats.get(path))
    new = _side(workspace, (new_path, new_file, new_oid), formats.get(new_path))
    diff = compare(old.manifest, new.manifest)
    if any(unit.kind == LORA for unit in diff.units):
        from git_theta_ext.operations.diff.loras import LoraSide, with_lora_updates  # others start without it

        parameters = ({} if side.manifest is None else side.manifest.parameters for side in (old, new))
        loras = (LoraSide(p, workspace.store, side) for p, side in zip(parameters, (old, new), strict=True))
        diff = with_lora_updates(diff, *loras)
    notes = [f"mode {old_mode} -> {new_mode}"] if "." not in (old_mode, new_mode) and old_mode != new_mode else []
    if diff.empty and not notes and not renamed:
        return None
    distances, missing = measure_modified(workspace, diff, old, new)
    if (diff.added or diff.removed) and model_name(new_path) != new_path:
        missing = [*missing, "git theta diff compares all files of the model, and finds parameters that moved"]
    if not all(update.scaled for update in diff.updates.values()):
        missing = [*missing, "git theta diff reads the scales of LoRAs in the adapter's configuration"]
    return ModelChange(new_path, diff, distances, path, [*notes, *missing])


def _side(workspace: Workspace, words: tuple[str, str, str], format_name: str | None) -> Side:
    repo = workspace.repo
    path, name, oid = words
    if name == os.devnull:
        return Side(None)
    file = repo.folder / name
    if oid.strip("0."):
        content = dict(manifest_blobs(repo, object_infos(repo, [oid]))).get(oid)
        if content is not None:
            own = file if repo.worktree is not None and file == repo.worktree / path else None
            return Side(Manifest.parse(content), own, format_name)
    return side_of_file(workspace, file, path, format_name, cached=not oid.strip("0."))
