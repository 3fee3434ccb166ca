"""Unpack checkpoints whose content is compressed, and pack them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.model.layout import Packing
from git_theta_ext.registry import detect_container, find_container
from git_theta_ext.store.temporary import spool
from git_theta_ext.util.written_file import WrittenFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_theta_ext.model.content import Content


def scratch(path: str, root: Path | None) -> WrittenFile:
    """Return an empty temporary file without a name.

    Args:
        path: Path of the checkpoint, for messages.
        root: Root of the store; None if there is none.
    """
    with spool(root) as file:
        return WrittenFile(file.fileno(), f"the temporary file of {path}")


def unpack(data: Content, path: str, root: Path | None) -> tuple[WrittenFile, Packing] | str | None:
    """Return the content of a compressed file, and how it is packed again.

    Args:
        data: The whole file.
        path: For messages.
        root: As for ``scratch``.

    Returns:
        None if the file is not compressed, and a reason if it could not be made again from its content.

    Raises:
        StoreError: The content cannot be written to a temporary file.
    """
    container = detect_container(data)
    if container is None:
        return None
    target = scratch(path, root)
    recipe = container.unpack(data, target)
    if recipe is None:
        return f"{path}: compressing its content again does not give the same {container.name} file"
    return target, Packing(container.name, recipe)


def pack(content: WrittenFile, packings: Sequence[Packing], target: WrittenFile, path: str, root: Path) -> None:
    """Write a file, given its content.

    Args:
        content: The content.
        packings: How the file is made of the content, the last first.
        target: The file, which is empty.
        path: For messages.
        root: Root of the store.

    Raises:
        CorruptError: The content cannot be packed as the layout says.
        StoreError: A file cannot be written.
    """
    for number, packing in reversed(list(enumerate(packings))):
        packed = scratch(path, root) if number else target
        try:
            find_container(packing.container).pack(content, packing.recipe, packed)
        except FormatError as error:
            raise CorruptError(f"{path}: {error.message}", hint="git theta fsck --full") from error
        content = packed
