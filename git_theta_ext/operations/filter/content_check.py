"""Find files that are probably not the intended checkpoint: a Git LFS pointer, or a damaged file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import find_object
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.manifest_text import MARK
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from git_theta_ext.checkpoint.clean import Described
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.content import Content
    from git_theta_ext.operations.workspace import Workspace

OPAQUE = "opaque"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEAD = 4096


def refuse_shown_text(repo: Repository, path: str, data: Content) -> None:
    """Refuse the text that git shows for a checkpoint: an editor that stages a part of a file sends it.

    Args:
        repo: The repository.
        path: Path relative to the top of the work tree.
        data: The content.

    Raises:
        ManifestError: The content is such a text.
    """
    if bytes(data[: len(MARK)]) == MARK:
        raise ManifestError(
            f"{shown_path(path)}: git shows this text for a checkpoint, but it has no values, "
            "so parts of it cannot be staged",
            hint=f"git theta add {repo.argument(path)} stages the file as a whole, "
            f"git checkout -- {repo.argument(path)} writes it anew",
        )


def check_content(
    workspace: Workspace, path: str, described: Described, data: Content, format_name: str | None
) -> str | None:
    """Report a file that is malformed, and return a note about another that is probably not the intended one.

    Args:
        workspace: The repository, which has the previous version.
        path: Path of the file, relative to the top of the work tree.
        described: Its manifest, and how it was read.
        data: Its content.
        format_name: From the ``theta-format`` attribute; None if the format was detected.
    """
    malformed = described.scan.malformed
    if malformed is not None:
        before = _manifest(workspace.repo, f"HEAD:{path}")
        hint = "git config theta.strict true makes this an error"
        if before is not None and before.format != OPAQUE:
            hint = f"if it is damaged: git restore --source=HEAD --staged --worktree {workspace.repo.argument(path)}"
        workspace.reporter.warning(f"{malformed.message}; stored as an opaque file", hint)
        return None
    if described.scan.note is not None or format_name is not None:
        return described.scan.note
    return _doubt(workspace.repo, path, described.manifest, data)


def _doubt(repo: Repository, path: str, manifest: Manifest, data: Content) -> str | None:
    if manifest.format != OPAQUE:
        return None
    head = bytes(data[:_HEAD])
    if head.startswith(_LFS_POINTER):
        return f"{repo.shown(path)} is a Git LFS pointer and not the model itself; git lfs pull downloads the model"
    versions = (_manifest(repo, f"{place}:{path}") for place in ("HEAD", ":0"))
    before = next((version for version in versions if version is not None and version.format != OPAQUE), None)
    if before is None:
        return None
    what = f"has {data.nbytes} bytes in an unknown format" if any(head) else "begins with zeros" if head else "is empty"
    return (
        f"{repo.shown(path)} {what}, "
        f"but the previous version is {before.format} with {len(before.parameters)} parameters; "
        f"if it is damaged: git restore --source=HEAD --staged --worktree {repo.argument(path)}"
    )


def _manifest(repo: Repository, name: str) -> Manifest | None:
    oid = find_object(repo, name)
    for _, content in manifest_blobs(repo, object_infos(repo, [oid] if oid else [])):
        return Manifest.parse(content)
    return None
