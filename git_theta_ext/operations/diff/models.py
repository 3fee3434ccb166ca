"""Compare the models of two commits, of the index or of the work tree; a model may have several files."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.models import compare_models
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import FormatError
from git_theta_ext.git.path_attributes import model_names
from git_theta_ext.git.raw_diff import Changes, changes
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.shards import model_name
from git_theta_ext.model.units import LORA
from git_theta_ext.operations.diff.grouping import Pair, pairs_of
from git_theta_ext.operations.diff.measuring import measure_modified
from git_theta_ext.operations.diff.pieces import join_pieces
from git_theta_ext.operations.diff.selection import EVERYTHING, Selection
from git_theta_ext.operations.diff.sides import ModelSide
from git_theta_ext.operations.diff.trees import read_trees
from git_theta_ext.records import replace
from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.git.raw_diff import Compared, FileChange
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.diff.sides import Side
    from git_theta_ext.operations.workspace import Workspace


def diff_models(
    workspace: Workspace, compared: Compared, selection: Selection = EVERYTHING
) -> tuple[list[ModelChange], tuple[str, ...]]:
    """Compare models.

    Args:
        workspace: The repository and its store.
        compared: Which versions of which files. A model is compared whole if one of its files is among these.
        selection: Which parameters to compare, and which changes to leave out.

    Returns:
        The models that differ, sorted by path, and the paths in conflict.

    Raises:
        RepositoryError: Git refuses a revision or a path.
        ManifestError: A manifest is broken.
        FormatError: A file of the work tree breaks its format.
    """
    found = changes(workspace.repo, compared)
    named = set(_paths(found.files))
    if compared.paths and named:
        folders = sorted({posixpath.dirname(path) for path in named})
        found = Changes(changes(workspace.repo, compared.within(folders)).files, found.unmerged)
    old, new = read_trees(workspace, compared, found.files)
    if any(side.in_chunks for tree in (old, new) for side in tree.checkpoints.values()):
        from git_theta_ext.operations.diff.external import join_external_data  # other diffs start without it

        join_external_data(workspace.store, old, new)
    join_pieces(workspace.store, old, new)
    named_models = model_names(workspace.repo.run, sorted({*old.checkpoints, *new.checkpoints}))
    names = {**old.models, **new.models, **named_models}
    pairs = [pair for pair in pairs_of(old, new, found.files, names) if named & pair.paths]
    _warn_of_unmatched(workspace, selection, pairs)
    diffs = [diff for pair in pairs for diff in _diffs(workspace, selection, pair, found.files)]
    if compared.with_worktree(workspace.repo) and any(pair.old.keys() - pair.new.keys() for pair in pairs):
        diffs = _with_untracked(workspace.repo, diffs)
    return sorted(diffs, key=lambda diff: diff.path), found.unmerged


def _warn_of_unmatched(workspace: Workspace, selection: Selection, pairs: Sequence[Pair]) -> None:
    """Warn of patterns that no parameter matches: limits on these parameters would never be exceeded."""
    sides = [side for pair in pairs for side in (*pair.old.values(), *pair.new.values())]
    if manifests := [side.manifest for side in sides if side.manifest is not None]:
        for pattern in selection.unmatched(manifests):
            workspace.reporter.warning(f"no parameter of the models that differ matches '{printable(pattern)}'")


def _paths(files: Iterable[FileChange]) -> Iterator[str]:
    return (entry.path for change in files for entry in (change.old, change.new) if entry is not None)


def _diffs(
    workspace: Workspace, selection: Selection, pair: Pair, files: Sequence[FileChange]
) -> Iterator[ModelChange]:
    try:
        versions = [selection.of_version(_version(side)) for side in (pair.old, pair.new)]
    except FormatError as error:
        yield from _one_by_one(workspace, selection, pair, files, error.message)
        return
    sides = ModelSide(pair.old), ModelSide(pair.new)
    diff = selection.of_diff(compare_models(*versions))
    if any(pair.configs) or any(unit.kind == LORA for unit in diff.units):
        from git_theta_ext.operations.diff.loras import LoraSide, with_lora_updates  # other diffs start without it

        loras = (
            LoraSide({} if version is None else version.parameters, workspace.store, side, _only(configs))
            for version, side, configs in zip(versions, sides, pair.configs, strict=True)
        )
        diff = with_lora_updates(diff, *loras)
    modes = list(_modes(pair, files))
    renamed = pair.old_name != pair.name
    if diff.empty and not modes and not renamed:
        return
    distances, notes = measure_modified(workspace, diff, *sides) if selection.numbers else ({}, [])
    diff, small = selection.large(diff, distances)
    if diff.empty and not modes and not renamed:
        return
    if small:
        notes.append(f"{plural(small, 'parameter')} changed by at most {selection.tolerance:g}")
    kept = {name: distance for name, distance in distances.items() if name in diff.modified}
    yield ModelChange(pair.name, diff, kept, pair.old_name, [*modes, *notes])


def _only(configs: Mapping[str, bytes]) -> bytes | None:
    return next(iter(configs.values())) if len(configs) == 1 else None


def _with_untracked(repo: Repository, diffs: Iterable[ModelChange]) -> list[ModelChange]:
    """Add a note to models that have files which git does not compare because they are untracked."""
    from git_theta_ext.operations.history.status import untracked  # few models lose files

    files: dict[str, list[str]] = {}
    for path in untracked(repo):
        files.setdefault(model_name(path), []).append(path)
    return [
        replace(diff, notes=[*diff.notes, _left_out(repo, files[diff.path])]) if diff.path in files else diff
        for diff in diffs
    ]


def _left_out(repo: Repository, paths: Sequence[str]) -> str:
    what = "1 untracked file is" if len(paths) == 1 else f"{len(paths)} untracked files are"
    folder = posixpath.dirname(paths[0]) or "."
    return f"{what} left out: git add {repo.argument(folder)} && git theta diff --cached"


def _version(side: Mapping[str, Side]) -> ModelVersion | None:
    manifests = {path: side[path].manifest for path in sorted(side)}
    shards = {path: manifest for path, manifest in manifests.items() if manifest is not None}
    return ModelVersion(shards) if shards else None


def _one_by_one(
    workspace: Workspace, selection: Selection, pair: Pair, files: Sequence[FileChange], reason: str
) -> Iterator[ModelChange]:
    """Compare the files of what cannot be one model, such as files that hold parameters of the same names."""
    if len(pair.old) <= 1 >= len(pair.new):
        raise FormatError(f"{pair.name}: {reason}")
    for path in sorted({*pair.old, *pair.new}):
        old = {path: pair.old[path]} if path in pair.old else {}
        new = {path: pair.new[path]} if path in pair.new else {}
        yield from _diffs(workspace, selection, Pair(path, path, old, new), files)


def _modes(pair: Pair, files: Sequence[FileChange]) -> Iterator[str]:
    for change in files:
        if change.old is not None and change.new is not None and change.new.path in pair.new:
            modes = f"mode {change.old.mode} -> {change.new.mode}"
            if change.old.mode != change.new.mode:
                yield modes if len(pair.new) == 1 else f"{change.new.path}: {modes}"
