"""Git's external diff for checkpoints (git documentation, "GIT_EXTERNAL_DIFF").

A side is given as a file and an object id. The file holds a manifest, or the checkpoint itself where git reuses a file
of the work tree; so what has an id is read by that, and only the rest from the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.shards import model_name
from git_theta_ext.model.units import LORA
from git_theta_ext.operations.diff.git_call import DiffCall
from git_theta_ext.operations.diff.measuring import measure_modified
from git_theta_ext.operations.diff.sides import Side, side_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.diff.git_call import Version
    from git_theta_ext.operations.workspace import Workspace

_MOST_HELD = 1 << 26
"""Bytes of values that are held in memory."""


def diff_versions(words: Sequence[str], workspace: Workspace) -> ModelChange | None:
    """Compare two versions of a checkpoint.

    Args:
        words: As for ``DiffCall.of``.
        workspace: The repository and its store.

    Returns:
        None if they do not differ.

    Raises:
        UsageError: The number of words is none that git gives.
        FormatError: A version breaks its format.
        ManifestError: A version is a broken manifest.
    """
    call = DiffCall.of(words)
    formats = theta_paths(workspace.repo.run, [call.path, call.new_path])
    sides = sides_of(workspace, call, formats, manifests_of(workspace, [call]))
    with workspace.store.holding(held_values([sides])):
        return compare_versions(workspace, call, *sides)


def manifests_of(workspace: Workspace, calls: Iterable[DiffCall]) -> dict[str, bytes]:
    """Return the manifests among the versions that git has as objects, by object id."""
    oids = [version.oid for call in calls for version in (call.old, call.new) if version.stored]
    return dict(manifest_blobs(workspace.repo, object_infos(workspace.repo, oids)))


def sides_of(
    workspace: Workspace, call: DiffCall, formats: Mapping[str, str | None], manifests: Mapping[str, bytes]
) -> tuple[Side, Side]:
    """Return both versions of a checkpoint.

    Args:
        workspace: The repository and its store.
        call: What git asks.
        formats: The ``theta-format`` attribute by path.
        manifests: Manifests by object id.

    Raises:
        FormatError: A version breaks its format.
        ManifestError: A version is a broken manifest.
    """
    old = _side(workspace, call.path, call.old, formats.get(call.path), manifests)
    return old, _side(workspace, call.new_path, call.new, formats.get(call.new_path), manifests)


def held_values(sides: Iterable[tuple[Side, Side]]) -> dict[Digest, TensorSpec]:
    """Return the tensors that comparisons of versions read, in a store that holds them; none if they are large.

    The update of a LoRA and the distances of its factors are measured from the same values.

    Args:
        sides: Both versions of each checkpoint.
    """
    values: dict[Digest, TensorSpec] = {}
    for pair in sides:
        old, new = ({} if one.manifest is None else one.manifest.parameters for one in pair)
        for name in old.keys() & new.keys():
            if old[name].digest != new[name].digest:
                values.update((parameter.digest, parameter.spec) for parameter in (old[name], new[name]))
    return values if sum(spec.nbytes for spec in values.values()) <= _MOST_HELD else {}


def compare_versions(workspace: Workspace, call: DiffCall, old: Side, new: Side) -> ModelChange | None:
    """Compare two versions of a checkpoint that were read; return None if they do not differ."""
    if old.in_chunks or new.in_chunks:
        from git_theta_ext.operations.diff.driver_external import by_tensors  # others start without it

        old, new = by_tensors(workspace, call, old, new)
    diff = compare(old.manifest, new.manifest)
    if any(unit.kind == LORA for unit in diff.units):
        from git_theta_ext.operations.diff.loras import LoraSide, with_lora_updates  # others start without it

        parameters = ({} if side.manifest is None else side.manifest.parameters for side in (old, new))
        loras = (LoraSide(p, workspace.store, side) for p, side in zip(parameters, (old, new), strict=True))
        diff = with_lora_updates(diff, *loras)
    modes = call.old.mode, call.new.mode
    notes = [f"mode {modes[0]} -> {modes[1]}"] if "." not in modes and modes[0] != modes[1] else []
    if diff.empty and not notes and not call.renamed:
        return None
    distances, missing = measure_modified(workspace, diff, old, new)
    if (diff.added or diff.removed) and model_name(call.new_path) != call.new_path:
        missing = [*missing, "git theta diff compares all files of the model, and finds parameters that moved"]
    if not all(update.scaled for update in diff.updates.values()):
        missing = [*missing, "git theta diff reads the scales of LoRAs in the adapter's configuration"]
    return ModelChange(call.new_path, diff, distances, call.path, [*notes, *missing])


def _side(
    workspace: Workspace, path: str, version: Version, format_name: str | None, manifests: Mapping[str, bytes]
) -> Side:
    repo = workspace.repo
    if version.file == os.devnull:
        return Side(None)
    file = repo.folder / version.file
    content = manifests.get(version.oid)
    if content is not None:
        own = file if repo.worktree is not None and file == repo.worktree / path else None
        return Side(Manifest.parse(content), own, format_name, root=workspace.store.root)
    return side_of_file(workspace, file, path, format_name, cached=not version.stored)
