"""Find files that are probably not the intended checkpoint: a Git LFS pointer, or a damaged file."""

from __future__ import annotations

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


def check_content(repo: Repository, path: str, manifest: Manifest, data: Content) -> str | None:
    """Return a warning about a file that is added; None if there is nothing to warn about.

    Args:
        repo: The repository, which has the previous version.
        path: Path of the file, relative to the top of the work tree.
        manifest: Its manifest, with the detected format.
        data: Its content.
    """
    if manifest.format != OPAQUE:
        return None
    head = bytes(data[:_HEAD])
    if head.startswith(_LFS_POINTER):
        return f"{path} is a Git LFS pointer and not the model itself; git lfs pull downloads the model"
    versions = (_manifest(repo, f"{place}:{path}") for place in ("HEAD", ":0"))
    before = next((version for version in versions if version is not None and version.format != OPAQUE), None)
    if before is None:
        return None
    what = "begins with zeros" if not any(head) else f"has {data.nbytes} bytes in an unknown format"
    return (
        f"{path} {what}, but the previous version is {before.format} with {len(before.parameters)} parameters; "
        f"if it is damaged: git restore --source=HEAD --staged --worktree {repo.argument(path)}"
    )


def _manifest(repo: Repository, name: str) -> Manifest | None:
    oid = find_object(repo, name)
    for _, content in manifest_blobs(repo, object_infos(repo, [oid] if oid else [])):
        return Manifest.parse(content)
    return None
