"""The model that a search evaluates: which one it is, and its files in a directory for the command."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.commit_attributes import theta_paths_at
from git_theta_ext.git.objects import read_manifests, read_objects
from git_theta_ext.git.pathspecs import is_within
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.operations.models import Directory
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.statistics.sidecar import is_statistics
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.branches import BranchMerge
    from git_theta_ext.operations.workspace import Workspace


def evaluated_model(repo: Repository, merge: BranchMerge, places: Sequence[str]) -> str:
    """Return the name of the model that a merge of all branches changes.

    Args:
        repo: The repository.
        merge: The merge.
        places: Files and directories, relative to the top, that the user named; empty for all.

    Raises:
        UsageError: Several models change, and the user named none or several.
        MergeError: None changes.
    """
    merged = {checkpoint.merged.path for checkpoint in merge.checkpoints}
    merged |= {path for model in merge.models for path in model.paths()}
    before, *others = (_files(repo, head) for head in merge.heads)
    after = _files(repo, merge.tree)
    changed = {path for path, oid in after.items() if path in merged or before.get(path) != oid}
    # In the tree, a file that several branches added may have conflict markers.
    versions = {path: oid for files in others for path, oid in files.items() if before.get(path) != oid}
    tracked = [path for path in theta_paths_at(repo, merge.tree, sorted(changed)) if path in versions]
    manifests = read_manifests(repo, {versions[path]: path for path in tracked})
    models = {oid for oid, manifest in manifests.items() if not is_statistics(manifest.parameters)}
    paths = [path for path in tracked if versions[path] in models]
    names = {_name(repo, merge.tree, path): path for path in paths}
    if places:
        names = {n: p for n, p in names.items() if any(is_within(path, place) for place in places for path in (n, p))}
    if not names:
        where = f" in {shortlist(places)}" if places else ""
        raise MergeError(f"the branches change no model{where}", hint="git theta merge --plan BRANCH ...")
    if len(names) > 1:
        raise UsageError(
            f"the branches change several models: {shortlist(map(shown_path, sorted(names)))}",
            hint=f"name the one to evaluate after --: git theta merge --search FILE BRANCH -- {min(names)}",
        )
    return next(iter(names))


def _files(repo: Repository, rev: str) -> dict[str, str]:
    return {entry.path: entry.oid for entry in repo.entries(rev) if entry.regular}


def _name(repo: Repository, rev: str, path: str) -> str:
    model = Directory.of(repo, rev, posixpath.dirname(path)).model_with(path)
    return path if model is None else model.name


def write_model(workspace: Workspace, rev: str, name: str, merged: Mapping[str, bytes], folder: Path) -> Path:
    """Write a model, and the other files of its directory that git itself stores, such as its configuration.

    Args:
        workspace: The repository, and the store of the tensors.
        rev: The commit or tree with the files.
        name: The model.
        merged: Path to the content of files that were merged on trial; they replace those of the tree.
        folder: An empty directory.

    Returns:
        What a command evaluates: the directory if the model has several files or is an adapter with a configuration,
        or else the checkpoint.

    Raises:
        MergeError: The tree does not have the model.
        ThetaError: A file cannot be written, or tensors are neither here nor on a remote.
    """
    repo, parent = workspace.repo, posixpath.dirname(name)
    directory = Directory.of(repo, rev, parent)
    model = directory.models.get(name)
    if model is None:
        raise MergeError(f"the merged tree has no {name}", hint="git theta merge --plan BRANCH ...")
    replaced = {path: content for path, content in merged.items() if posixpath.dirname(path) == parent}
    kept = {path: oid for path, oid in directory.files.items() if not replaced or path not in model.files}
    contents = dict(read_objects(repo, dict.fromkeys(kept.values())))
    files = {path: contents[oid] for path, oid in kept.items()} | replaced
    own = {*model.files, *replaced}
    manifests = {path: Manifest.parse(data) for path, data in files.items() if path in own and is_manifest(data)}
    ensure_local(workspace, manifests.values())
    for path, content in files.items():
        place = folder / posixpath.basename(path)
        if path in manifests:
            populate(manifests[path], workspace.store, place, Expected.at(place))
        elif not is_manifest(content):
            with reporting_os_errors(place):
                replace_content(place, content)
    return folder if model.sharded or len(manifests) > 1 else folder / posixpath.basename(name)
