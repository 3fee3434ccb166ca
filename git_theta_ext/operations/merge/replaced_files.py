"""Let another process free the space of large files that a checkout replaces.

Git removes a file before it writes another version, and waits until the file system has freed its space: on ext4 half
a second for a gigabyte. If a process has the file open, its name is removed at once, and the space is freed when that
process closes it, while git goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.draft import finished_draft
from git_theta_ext.util.system import NOFOLLOW, open_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.operations.merge.driver_call import Answer
    from git_theta_ext.operations.workspace import Workspace

_LARGE = 1 << 26
"""Bytes of a file from which on freeing its space takes longer than starting a process, which is 15 ms."""

_HOLD = """
import os, sys, time
git, *files = sys.argv[1:]
while os.path.exists(git) and any(os.fstat(int(file)).st_nlink for file in files):
    time.sleep(0.01)
"""
"""A program that has files open until each has lost its name, and no longer than a git process runs."""


def free_meanwhile(workspace: Workspace, git: str, folder: Path, merged: Mapping[str, Answer]) -> None:
    """Hold large files open that a git process replaces by drafts.

    Args:
        workspace: The repository.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
        folder: The directory with its drafts.
        merged: The results of the merge by path.
    """
    files = []
    for path, answer in merged.items():
        file = workspace.repo.folder / path
        with suppress(OSError):
            if answer.manifest is not None and file.lstat().st_size >= _LARGE:
                files += [file] if finished_draft(folder, answer.manifest, file) is not None else []
    if files:
        hold_open(files, f"/proc/{git.partition('-')[0]}")


def hold_open(files: Sequence[Path], git: str) -> subprocess.Popen[bytes] | None:
    """Start a process that has files open until each has lost its name, and return it; None if that is not possible.

    It shares neither the terminal nor the pipes of this process, so nobody waits for it.

    Args:
        files: The files.
        git: A path that exists as long as the process that removes them runs.
    """
    descriptors: list[int] = []
    with ExitStack() as opened, suppress(OSError):
        for file in files:
            descriptor = open_file(file, os.O_RDONLY | NOFOLLOW)
            opened.callback(os.close, descriptor)
            descriptors.append(descriptor)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HOLD, git, *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=descriptors,
            start_new_session=True,
        )
    return None
