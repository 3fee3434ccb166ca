"""Manifests at paths that no ``.gitattributes`` assigns to git theta: git checks out their text."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from git_theta_ext.git.repository import Repository


def unattributed(repo: Repository, paths: Collection[str]) -> list[str]:
    """Return the paths, sorted, that the ``.gitattributes`` files in the index do not assign to git theta.

    Those that are only in the work tree do not count: other clones get what is committed.

    Args:
        repo: A repository with a work tree.
        paths: Paths of manifests in the index.
    """
    return sorted(set(paths).difference(theta_paths(repo.run, paths, cached=True)))


def advice(repo: Repository, paths: list[str]) -> tuple[str, str]:
    """Return a message about manifests without our filter, and the command that fixes them."""
    others = len(paths) - 1
    named = repo.shown(paths[0]) + (f" and {others} other{'s' if others > 1 else ''}" if others else "")
    verb = "are manifests" if others else "is a manifest"
    files = _attribute_files(repo, paths)
    if files and len(theta_paths(repo.run, paths)) == len(paths):
        return (
            f"{named} {verb}, but .gitattributes is not staged: clones would get the text of the manifest",
            f"git add {' '.join(map(repo.argument, files))} && git commit",
        )
    track, added = f"{repo.git_at_top} theta track {shell_word(paths[0])}", repo.argument(".gitattributes")
    return (
        f"{named} {verb}, but no .gitattributes tracks it: the file has only the text of the manifest",
        f"{track} && git add {added} && git theta checkout",
    )


def _attribute_files(repo: Repository, paths: Iterable[str]) -> list[str]:
    """Return the ``.gitattributes`` files of the work tree that may have lines for some paths."""
    folders = {folder for path in paths for folder in PurePosixPath(path).parents}
    files = sorted(f"{folder / '.gitattributes'}" for folder in folders)
    return [file for file in files if (repo.folder / file).is_file()]
