"""The state of the checkpoints in a commit, the index and the work tree, for ``git theta status``."""

from __future__ import annotations

import stat as stat_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import branch_of
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.filter.populate import manifest_at
from git_theta_ext.records import dataclass
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class WorktreeFile:
    """What is at the path of a checkpoint in the work tree.

    Attributes:
        kind: ``file`` for the checkpoint; ``empty`` for an empty file, which git itself stores; ``manifest`` if the
            checkpoint is not written yet; ``gone`` if nothing is there; ``link`` for anything that is not a regular
            file.
        manifest: The manifest of the file, or the manifest in its place.
    """

    kind: Literal["file", "empty", "manifest", "gone", "link"]
    manifest: Manifest | None = None


def unknown_bytes(workspace: Workspace, paths: Mapping[str, str | None]) -> int:
    """Return the total size of the files that must be read to find out what they contain."""
    cache, top = StatCache(workspace.store), worktree_of(workspace.repo)
    sizes = 0
    for path, name in paths.items():
        if cache.get(top / path, name, stored=False) is None and (top / path).is_file():
            sizes += (top / path).lstat().st_size
    return sizes


def in_worktree(
    workspace: Workspace,
    paths: Mapping[str, str | None],
    advance: Callable[[int], None],
    known: Mapping[str, Manifest] = MappingProxyType({}),
) -> dict[str, WorktreeFile]:
    """Return the checkpoints in the work tree. Files whose manifest is not cached are read; nothing is stored.

    Args:
        workspace: The repository and its store.
        paths: A mapping from path to format name.
        advance: Called with the number of bytes read since the last call.
        known: Manifests that were read already, by the object id of their blob.

    Raises:
        FormatError: A file is malformed; the message names it.
        ManifestError: A manifest is broken.
        ChangedError: A file was truncated while it was read.
        RepositoryError: A file cannot be read.
    """

    def parse(content: bytes) -> Manifest:
        return known.get(blob_id(content, workspace.repo.object_format)) or Manifest.parse(content)

    return {path: _worktree_file(workspace, path, name, advance, parse) for path, name in paths.items()}


def _worktree_file(
    workspace: Workspace,
    path: str,
    format_name: str | None,
    advance: Callable[[int], None],
    parse: Callable[[bytes], Manifest],
) -> WorktreeFile:
    full = worktree_of(workspace.repo) / path
    try:
        stat = full.lstat()
    except OSError:
        return WorktreeFile("gone")
    if not stat_module.S_ISREG(stat.st_mode):
        return WorktreeFile("link")
    kind: Literal["file", "empty"] = "file" if stat.st_size else "empty"
    if (cached := StatCache(workspace.store).get(full, format_name, stored=False)) is not None:
        return WorktreeFile(kind, parse(cached))
    if (content := manifest_at(workspace.repo, path)) is not None:
        return WorktreeFile("manifest", parse(content))
    try:
        data = open_bytes(full, path)
    except OSError as error:
        raise RepositoryError(f"{shown_path(path)}: {error.strerror}") from error
    store = workspace.store
    described = describe(data, path, format_name, threads=store.threads, advance=advance, root=store.root)
    return WorktreeFile(kind, described.manifest)


def untracked(repo: Repository) -> list[str]:
    """List untracked files whose attributes make them checkpoints, except ignored files and symbolic links."""
    text = repo.run("ls-files", "--others", "--exclude-standard", "-z").decode(errors="surrogateescape")
    top = worktree_of(repo)
    return [path for path in theta_paths(repo.run, text.split("\0")[:-1]) if not (top / path).is_symlink()]


def push_remote(repo: Repository) -> str | None:
    """Return the remote that ``git push`` uses: the branch's, the default, ``origin``, or the only one."""
    names = repo.config.git_remotes
    branch = branch_of(repo)
    pushes = [] if branch is None else [repo.config.text(f"branch.{branch}.pushremote")]
    pushes.append(repo.config.text("remote.pushdefault"))
    pushes += [] if branch is None else [repo.config.text(f"branch.{branch}.remote")]
    pushes += ["origin", *(names if len(names) == 1 else [])]
    return next((name for name in pushes if name in names), None)
