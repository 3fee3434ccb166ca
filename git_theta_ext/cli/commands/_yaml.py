"""Read the YAML files that users name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.merging.rules.yaml_file import MOST_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def yaml_text(path: Path, *, hint: str) -> bytes:
    """Return a file's content, or the beginning of one that is too large, which its parser refuses.

    Args:
        path: The file.
        hint: The command that explains what it holds.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
