"""Write all files of a directory in a commit: checkpoints with their tensors, and all others as git stores them."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import ChangedError, UsageError
from git_theta_ext.git.objects import read_manifests, read_objects
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.operations.workspace import Workspace


def files_below(workspace: Workspace, rev: str | None, folder: str) -> dict[str, TreeEntry]:
    """Return the regular files of a directory and its subdirectories, by their path in it.

    Args:
        workspace: The repository.
        rev: A commit; None for the index.
        folder: The directory, relative to the top; empty for the top.

    Raises:
        RepositoryError: There is no such commit.
    """
    start = f"{folder}/" if folder else ""
    entries = [entry for entry in workspace.repo.entries(rev) if entry.regular and not entry.stage]
    return {entry.path.removeprefix(start): entry for entry in entries if entry.path.startswith(start)}


def export_files(
    workspace: Workspace, files: Mapping[str, TreeEntry], target: Path, *, force: bool = False
) -> list[Path]:
    """Write files of a commit below a directory, which is made if it does not exist.

    Args:
        workspace: The repository and its store.
        files: The files, by their path below the directory.
        target: The directory.
        force: Whether existing files are replaced.

    Returns:
        The paths of the files, sorted.

    Raises:
        UsageError: A file exists, or a path leads out of the directory.
        ChangedError: Another program changed a file in the meantime; it is kept.
        MissingError: Tensors are neither here nor on a remote.
    """
    repo, places = workspace.repo, {}
    for path in sorted(files):
        if ".." in PurePosixPath(path).parts or posixpath.isabs(path):
            raise UsageError(f"{path!r} leads out of the directory", hint="git fsck")
        places[path] = target / path
        if places[path].exists() and not force:
            raise UsageError(f"{places[path]} already exists", hint="git theta export --force REV:DIRECTORY DIRECTORY")
    expected = {path: Expected.at(place) for path, place in places.items()}
    manifests = read_manifests(repo, {entry.oid: entry.path for entry in files.values()})
    checkpoints = {path: manifests[entry.oid] for path, entry in files.items() if entry.oid in manifests}
    with workspace.reporter.progress("fetching", 0) as advance:
        ensure_local(workspace, checkpoints.values(), advance)
    others = {path: entry.oid for path, entry in files.items() if path not in checkpoints}
    for place in places.values():
        with reporting_os_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
    for oid, content in read_objects(repo, dict.fromkeys(others.values())):
        for path in (path for path, other in others.items() if other == oid):
            with reporting_os_errors(places[path]):
                replace_content(places[path], content)
    total = sum(nbytes for manifest in checkpoints.values() for _, nbytes in manifest.digests())
    with workspace.reporter.progress("writing", total) as advance:
        for path, manifest in checkpoints.items():
            if populate(manifest, workspace.store, places[path], expected[path], advance) is None:
                raise ChangedError(
                    f"another program changed {places[path]} during the export; its file was kept",
                    hint="git theta export --force REV:DIRECTORY DIRECTORY",
                )
    return list(places.values())
