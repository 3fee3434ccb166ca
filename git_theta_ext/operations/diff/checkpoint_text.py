"""The text that git shows for a file that is a checkpoint, and no manifest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.model.manifest_text import manifest_text
from git_theta_ext.operations.diff.sides import side_of_file
from git_theta_ext.protocol.lfs.pointer import MAX_POINTER, parse_pointer

if TYPE_CHECKING:
    from git_theta_ext.operations.workspace import Workspace


def checkpoint_text(workspace: Workspace, name: str) -> bytes:
    """Return the text for a checkpoint, without storing it.

    It is in the work tree, or a temporary file of git's with a version from before it was tracked, which can also be a
    pointer of Git LFS: that is text already.

    Args:
        workspace: The repository and its store, whose stat cache knows most files of the work tree.
        name: The file, relative to the current directory.

    Raises:
        OSError: The file cannot be read.
    """
    file = Path.cwd() / name
    with file.open("rb") as opened:
        head = opened.read(MAX_POINTER + 1)
    if not head or parse_pointer(head) is not None:
        return head
    top = workspace.repo.worktree
    path = os.path.relpath(file, top) if top is not None and file.is_relative_to(top) else None
    format_name = None if path is None else theta_paths(workspace.repo.run, [path]).get(path)
    try:
        side = side_of_file(workspace, file, path or file.name, format_name, cached=path is not None)
    except ThetaError as error:
        return f"{error.message}\n".encode(errors="surrogateescape")
    assert side.manifest is not None
    return manifest_text(side.manifest.to_bytes())
