"""What the checkpoints of a commit, the index and the work tree hold, for ``git theta status``."""

from __future__ import annotations

import stat as stat_module
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.errors import RepositoryError, ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import branch_of, head_of
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.filter.populate import manifest_at
from git_theta_ext.operations.sync.outgoing import RefUpdate, outgoing
from git_theta_ext.operations.sync.push_refs import boundary, tracked
from git_theta_ext.operations.sync.remotes import fetch_address, push_addresses, remote_url
from git_theta_ext.store.deltas.chains import ancestors, shallowest
from git_theta_ext.store.locations import in_packs
from git_theta_ext.transfer.complete import read_complete, write_complete
from git_theta_ext.transfer.remote_index import RemoteIndex, known_headers
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class Found:
    """A checkpoint's place in the work tree.

    Attributes:
        kind: ``file`` with its manifest; ``manifest`` where the file is still to be written; ``gone``; ``link`` for
            anything that is no regular file.
        manifest: Of the file, or the one that lies in its place.
    """

    kind: Literal["file", "manifest", "gone", "link"]
    manifest: Manifest | None = None


def unknown_bytes(workspace: Workspace, paths: Mapping[str, str | None]) -> int:
    """Return the size of the files among some paths that have to be read to tell what they hold."""
    cache, top = StatCache(workspace.store), worktree_of(workspace.repo)
    sizes = 0
    for path, name in paths.items():
        if cache.get(top / path, name, stored=False) is None and (top / path).is_file():
            sizes += (top / path).lstat().st_size
    return sizes


def in_worktree(
    workspace: Workspace, paths: Mapping[str, str | None], advance: Callable[[int], None]
) -> dict[str, Found]:
    """Tell what lies in the work tree; files that nothing is known of are read, and none is stored.

    Args:
        workspace: The repository and its store.
        paths: Path to format name.
        advance: Told the number of bytes read, as it goes.

    Raises:
        FormatError: A file breaks its format; the message names it.
        ManifestError: A manifest is broken.
        ChangedError: A file was cut short while it was read.
        RepositoryError: A file cannot be read.
    """
    return {path: _found(workspace, path, name, advance) for path, name in paths.items()}


def _found(workspace: Workspace, path: str, format_name: str | None, advance: Callable[[int], None]) -> Found:
    full = worktree_of(workspace.repo) / path
    try:
        stat = full.lstat()
    except OSError:
        return Found("gone")
    if not stat_module.S_ISREG(stat.st_mode):
        return Found("link")
    if (known := StatCache(workspace.store).get(full, format_name, stored=False)) is not None:
        return Found("file", Manifest.parse(known))
    if (content := manifest_at(workspace.repo, path)) is not None:
        return Found("manifest", Manifest.parse(content))
    try:
        data = open_bytes(full, path)
    except OSError as error:
        raise RepositoryError(f"{path}: {error.strerror}") from error
    return Found("file", describe(data, path, format_name, threads=workspace.store.threads, advance=advance).manifest)


def untracked(repo: Repository) -> list[str]:
    """List checkpoints by their attributes that git does not know yet and does not ignore; links are none."""
    text = repo.run("ls-files", "--others", "--exclude-standard", "-z").decode(errors="surrogateescape")
    top = worktree_of(repo)
    return [path for path in theta_paths(repo.run, text.split("\0")[:-1]) if not (top / path).is_symlink()]


@dataclass(frozen=True)
class NotPushed:
    """What the remote that the current branch is pushed to lacks of its history, by what is known here.

    Attributes:
        remote: Its name.
        versions: Number of manifests that name something which it lacks.
        tensors: Number of tensors and skeletons that it lacks.
        nowhere: Number of those that no other remote has either.
    """

    remote: str
    versions: int = 0
    tensors: int = 0
    nowhere: int = 0


def unpushed(workspace: Workspace) -> NotPushed | None:
    """Return what the remote that the current branch is pushed to lacks; None where there is no remote or no commit.

    By what this repository was told when it last pushed or fetched: nobody is asked.

    Raises:
        RepositoryError: Git cannot walk the history.
        ManifestError: A manifest is broken.
    """
    repo = workspace.repo
    head, remote = head_of(repo), push_remote(repo)
    if head is None or remote is None:
        return None
    updates = [RefUpdate("HEAD", head, "HEAD", "0" * len(head))]
    try:
        url = remote_url(workspace, remote, push_addresses(repo, remote)[0])
    except ThetaError:  # a push says why
        found = outgoing(repo, remote, updates, tracked(repo, remote))
        return NotPushed(remote, found.manifests, len(found.digests), len(found.digests))
    complete = read_complete(repo.theta_dir, url, boundary(repo))
    if head in complete.tips:
        return NotPushed(remote)
    headers = known_headers(repo.theta_dir, url)
    chosen = shallowest(in_packs(headers))
    found = outgoing(repo, remote, updates, complete.tips, set(chosen))
    lacking = found.digests - set(chosen)
    if not lacking:
        packs = {chosen[digest].pack for digest in ancestors(found.digests, chosen)}
        write_complete(repo.theta_dir, url, complete.plus([head], packs))
        return NotPushed(remote)
    nowhere = set(lacking)
    for name in repo.config.git_remotes:
        with suppress(ThetaError):
            nowhere -= RemoteIndex(
                known_headers(repo.theta_dir, remote_url(workspace, name, fetch_address(repo, name)))
            ).held()
    return NotPushed(remote, found.manifests, len(lacking), len(nowhere))


def push_remote(repo: Repository) -> str | None:
    """Return the remote that ``git push`` would use: the branch's, the default, ``origin``, or the only one."""
    names = repo.config.git_remotes
    branch = branch_of(repo)
    pushes = [] if branch is None else [repo.config.text(f"branch.{branch}.pushremote")]
    pushes.append(repo.config.text("remote.pushdefault"))
    pushes += [] if branch is None else [repo.config.text(f"branch.{branch}.remote")]
    pushes += ["origin", *(names if len(names) == 1 else [])]
    return next((name for name in pushes if name in names), None)
