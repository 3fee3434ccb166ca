"""What the checkpoints of a commit, the index and the work tree hold, for ``git theta status``."""

from __future__ import annotations

import stat as stat_module
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.checkpoint.cache import StatCache
from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.checkpoint.mapping import map_path
from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.history import RefUpdate, outgoing
from git_theta_ext.git.paths import worktree_of
from git_theta_ext.git.revisions import branch_of, head_of
from git_theta_ext.git.worktree import manifest_at
from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.git.history import Outgoing
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.store.blobs import Store


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


def unknown_bytes(repo: Repository, store: Store, paths: Mapping[str, str | None]) -> int:
    """Return the size of the files among some paths that have to be read to tell what they hold."""
    cache, top = StatCache(store), worktree_of(repo)
    sizes = 0
    for path, name in paths.items():
        if cache.get(top / path, name) is None and (top / path).is_file():
            sizes += (top / path).lstat().st_size
    return sizes


def in_worktree(
    repo: Repository, store: Store, paths: Mapping[str, str | None], advance: Callable[[int], None]
) -> dict[str, Found]:
    """Tell what lies in the work tree; files that nothing is known of are read, and none is stored.

    Args:
        repo: With a work tree.
        store: Its store.
        paths: Path to format name.
        advance: Told the number of bytes read, as it goes.

    Raises:
        FormatError: A file breaks its format; the message names it.
        ManifestError: A manifest is broken.
        RepositoryError: A file cannot be read.
    """
    return {path: _found(repo, store, path, name, advance) for path, name in paths.items()}


def _found(repo: Repository, store: Store, path: str, format_name: str | None, advance: Callable[[int], None]) -> Found:
    full = worktree_of(repo) / path
    try:
        stat = full.lstat()
    except OSError:
        return Found("gone")
    if not stat_module.S_ISREG(stat.st_mode):
        return Found("link")
    if (known := StatCache(store).get(full, format_name)) is not None:
        return Found("file", Manifest.parse(known))
    if (content := manifest_at(repo, path)) is not None:
        return Found("manifest", Manifest.parse(content))
    try:
        data = map_path(full)
    except OSError as error:
        raise RepositoryError(f"{path}: {error.strerror}") from error
    return Found("file", describe(data, path, format_name, threads=store.threads, advance=advance).manifest)


def untracked(repo: Repository) -> list[str]:
    """List checkpoints by their attributes that git does not know yet and does not ignore; links are none."""
    text = repo.run("ls-files", "--others", "--exclude-standard", "-z").decode(errors="surrogateescape")
    top = worktree_of(repo)
    return [path for path in theta_paths(repo.run, text.split("\0")[:-1]) if not (top / path).is_symlink()]


def unpushed(repo: Repository) -> tuple[str, Outgoing] | None:
    """Return the remote that the current branch is pushed to, and what it lacks of the current commit.

    By what this repository knows: nobody is asked. None where there is no remote or no commit.

    Raises:
        RepositoryError: Git cannot walk the history.
        ManifestError: A manifest is broken.
    """
    head, remote = head_of(repo), push_remote(repo)
    if head is None or remote is None:
        return None
    return remote, outgoing(repo, remote, [RefUpdate("HEAD", head, "HEAD", "0" * len(head))])


def push_remote(repo: Repository) -> str | None:
    """Return the remote that ``git push`` would use: the branch's, the default, ``origin``, or the only one."""
    names = repo.config.git_remotes
    branch = branch_of(repo)
    pushes = [] if branch is None else [repo.config.text(f"branch.{branch}.pushremote")]
    pushes.append(repo.config.text("remote.pushdefault"))
    pushes += [] if branch is None else [repo.config.text(f"branch.{branch}.remote")]
    pushes += ["origin", *(names if len(names) == 1 else [])]
    return next((name for name in pushes if name in names), None)
