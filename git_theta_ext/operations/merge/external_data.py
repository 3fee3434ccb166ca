"""Merge external data, such as ``model.onnx.data``, by the tensors in it, of which the file beside it has the names.

Versions are merged by tensor if they have the same tensors at the same places, else as any file in chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import is_in_chunks
from git_theta_ext.errors import ThetaError
from git_theta_ext.operations.external_data import external_file, tensors_in
from git_theta_ext.operations.sync.fetch import ensure_digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.checkpoint.external_data import Known
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace


def as_tensors(
    workspace: Workspace,
    path: str,
    base: Manifest | None,
    sides: Sequence[Manifest],
    revisions: Iterable[str],
) -> tuple[Manifest | None, list[Manifest]] | None:
    """Return manifests of the tensors in versions of external data, which are stored for that.

    Args:
        workspace: The repository and its store.
        path: Path of the file.
        base: The common ancestor's version; None if there is none.
        sides: The versions that are merged.
        revisions: The commits or trees in which the other files of the directory are looked up.

    Returns:
        The manifests; None if it is not external data, or the versions have different tensors, or their bytes are
        neither here nor on a remote.
    """
    versions = [*sides, *([] if base is None else [base])]
    if not all(is_in_chunks(version) and not version.conflicted for version in versions):
        return None
    try:
        tables = [tensors_in(workspace, revision, path) for revision in revisions]
        if not tables or not tables[0] or any(table != tables[0] for table in tables):
            return None
        ensure_digests(workspace, (chunk.digest for version in versions for chunk in version.parameters.values()))
        files = [external_file(workspace, version, tables[0]) for version in versions]
        layouts = {None if file is None else file.layout.to_skeleton() for file in files}
        if None in layouts or len(layouts) > 1:
            return None
        known: Known = {}
        made = [file.store_tensors(workspace.store, known) for file in files if file is not None]
    except ThetaError:
        return None
    return (None if base is None else made[-1]), made[: len(sides)]
