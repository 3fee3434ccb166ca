"""Read the versions of a checkpoint that are merged."""

from __future__ import annotations

from git_theta_ext.errors import ManifestError
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.records import replace


def read_version(data: bytes, label: str, *, allow_conflicts: bool = False) -> Manifest:
    """Return a version to merge.

    Args:
        data: Its manifest.
        label: Its name in messages.
        allow_conflicts: Whether it may have conflicts, as common ancestors that git itself merged do.

    Raises:
        ManifestError: The data is not a manifest, not valid, or has conflicts.
    """
    if not is_manifest(data):
        raise ManifestError(
            f"{label} is not a manifest: it was committed without git-theta",
            hint="choose a side with git checkout --ours or --theirs, then git add it",
        )
    manifest = Manifest.parse(data)
    if manifest.conflicted and not allow_conflicts:
        raise ManifestError(
            f"{label} was committed with conflicts", hint="git theta resolve, and commit, on that branch"
        )
    return replace(manifest, layout_conflict=None)
