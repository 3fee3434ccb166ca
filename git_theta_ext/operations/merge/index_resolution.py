"""Keep the index of a sharded model right while its conflicts are resolved."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, RepositoryError
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.model.shard_index import MAX_INDEX, ShardIndex
from git_theta_ext.util.files import replace_content, reporting_os_errors, reporting_read_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest


def update_index(
    repo: Repository, path: str, before: Mapping[str, Manifest], after: Mapping[str, Manifest]
) -> dict[str, str]:
    """Write and stage an index in which parameters are listed as they are after conflicts were resolved.

    An index that is in conflict itself is left as it is.

    Args:
        repo: The repository.
        path: Path of the index.
        before: Path to manifest of the files with conflicts.
        after: The same after some of these were resolved.

    Returns:
        Path and object id of the index; empty if it did not change.
    """
    full = worktree_of(repo) / path
    if path in unmerged(repo) or not full.is_file() or full.stat().st_size > MAX_INDEX:
        return {}
    with reporting_read_errors(full):
        data = full.read_bytes()
    with suppress(FormatError):
        content = listed_after(ShardIndex.parse(data), before, after).to_bytes()
        if content != data:
            with reporting_os_errors(full):
                replace_content(full, content)
            with suppress(RepositoryError):  # it is ignored
                repo.run("add", "--", f":(top,literal){path}")
            return {path: blob_id(content, repo.object_format)}
    return {}


def listed_after(index: ShardIndex, before: Mapping[str, Manifest], after: Mapping[str, Manifest]) -> ShardIndex:
    """Return an index without the parameters that some files no longer have, and with those that they have now."""
    gone = {name for manifest in before.values() for name in manifest.parameters}
    weight_map = {name: file for name, file in index.weight_map.items() if name not in gone}
    for path, manifest in after.items():
        weight_map |= dict.fromkeys(manifest.parameters, posixpath.basename(path))
    specs = [[p.spec for manifest in side.values() for p in manifest.parameters.values()] for side in (before, after)]
    old, new = specs
    added = {
        "total_size": sum(spec.nbytes for spec in new) - sum(spec.nbytes for spec in old),
        "total_parameters": sum(spec.elements for spec in new) - sum(spec.elements for spec in old),
    }
    return index.moved(weight_map, added)
