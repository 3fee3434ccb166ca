"""Files that are likely not what their name says: a pointer in the place of a model, or a damaged checkpoint."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import find_object
from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.content import Content

OPAQUE = "opaque"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEAD = 4096


def doubt(repo: Repository, path: str, manifest: Manifest, data: Content) -> str | None:
    """Say why a file that is added may not be meant; None for one whose tensors are known.

    Args:
        repo: Its current commit or its index has the version before.
        path: Below the top of the work tree.
        manifest: Of the file, whose format was detected.
        data: The file.
    """
    if manifest.format != OPAQUE:
        return None
    head = bytes(data[:_HEAD])
    if head.startswith(_LFS_POINTER):
        return f"{path} is a Git LFS pointer and not the model itself; git lfs pull brings that"
    versions = (_manifest(repo, f"{place}:{path}") for place in ("HEAD", ":0"))
    before = next((version for version in versions if version is not None and version.format != OPAQUE), None)
    if before is None:
        return None
    what = "begins with zeros" if not any(head) else f"has {data.nbytes} bytes in a format that is not known"
    return (
        f"{path} {what}, and the version before is {before.format} with {len(before.parameters)} parameters; "
        f"if it is damaged: git restore --source=HEAD --staged --worktree {quote(path)}"
    )


def _manifest(repo: Repository, name: str) -> Manifest | None:
    oid = find_object(repo, name)
    for _, content in manifest_blobs(repo, object_infos(repo, [oid] if oid else [])):
        return Manifest.parse(content)
    return None
