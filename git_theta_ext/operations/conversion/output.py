"""Write the output of a conversion whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.util.files import reporting_os_errors, writing_output
from git_theta_ext.util.folders import temporary_folder
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_theta_ext.operations.conversion.targets import Target


def check_output(target: Target, path: Path, *, force: bool, command: str) -> None:
    """Refuse an output that exists already.

    Args:
        target: What is written.
        path: The file or directory.
        force: Whether a file is replaced. A directory never is, as it may have other files.
        command: The user's command with ``--force``, for the hint.

    Raises:
        UsageError: It exists, or its directory does not.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(f"directory {path.parent} does not exist", hint=f"mkdir -p {shell_word(str(path.parent))}")
    if target.directory:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"{path} already exists, and {target.name} needs a new or empty directory", hint="choose another name"
            )
    elif path.is_dir():
        raise UsageError(f"{path} is a directory, and {target.name} is a file", hint="choose another name")
    elif os.path.lexists(path) and not force:
        raise UsageError(f"{path} already exists", hint=command)


@contextmanager
def writing(target: Target, path: Path) -> Iterator[Path]:
    """Yield the name under which a block writes the output, which gets its name at the end.

    Raises:
        StoreError: It cannot be written.
    """
    with reporting_os_errors(path):
        if not target.directory:
            with writing_output(path) as output:
                yield output
            return
        with temporary_folder(path.absolute().parent) as folder:
            made = folder / "made"
            made.mkdir()
            yield made
            made.rename(path)
