"""Unpack checkpoints whose content is compressed, and pack them again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.model.layout import Packing
from git_theta_ext.records import dataclass
from git_theta_ext.registry import detect_container, find_container
from git_theta_ext.store.temporary import spool
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.share import Share
from git_theta_ext.util.threads import no_progress, thread_count
from git_theta_ext.util.written_file import WrittenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from git_theta_ext.model.content import Content

_SHARE = 8
"""Compressing the content takes all but one part in so many of the time for a compressed file."""


class TargetFile(WrittenFile):
    """A file that a container writes; see ``git_theta_ext.interfaces.Target``.

    Attributes:
        threads: Number of threads that may compress.
        advance: Called with the number of bytes that were compressed since the last call.
    """

    def __init__(self, descriptor: int, path: str, packer: Packer) -> None:
        super().__init__(descriptor, path)
        self._packer = packer
        self.threads = thread_count(packer.threads)
        self.advance: Callable[[int], None] = no_progress

    def another(self) -> TargetFile:
        """Return an empty temporary file, which vanishes with the object."""
        made = self._packer.scratch()
        made.advance = self.advance
        return made


@dataclass(frozen=True)
class Packer:
    """What unpacking and packing a checkpoint needs.

    Attributes:
        path: Path of the checkpoint, for messages.
        root: Root of the store, for temporary files; None if there is none.
        threads: Number of threads; 0 for one per CPU.
        advance: Called with the number of bytes done since the last call, of all that the caller counts.
    """

    path: str
    root: Path | None = None
    threads: int = 0
    advance: Callable[[int], None] = no_progress

    def scratch(self) -> TargetFile:
        """Return an empty temporary file without a name."""
        with spool(self.root) as file:
            return TargetFile(file.fileno(), f"the temporary file of {self.path}", self)

    def unpack(self, data: Content) -> tuple[TargetFile, Packing] | str | None:
        """Return the content of a compressed file, and how it is packed again.

        Args:
            data: The whole file.

        Returns:
            None if the file is not compressed, and a reason if it could not be made again from its content.

        Raises:
            StoreError: The content cannot be written to a temporary file.
        """
        container = detect_container(data)
        if container is None:
            return None
        target = self.scratch()
        target.advance = share = Share(self.advance, data.nbytes - data.nbytes // _SHARE, lambda: target.nbytes)
        recipe = container.unpack(data, target)
        target.advance = no_progress
        if recipe is None:
            return (
                f"{shown_path(self.path)}: compressing its content again does not give the same {container.name} file"
            )
        share.finish()
        return target, Packing(container.name, recipe)

    def pack(self, content: WrittenFile, packings: Sequence[Packing], descriptor: int) -> None:
        """Write a file, given its content.

        Args:
            content: The content. What the caller counts are its bytes.
            packings: How the file is made of the content, the last first.
            descriptor: Descriptor of the file, which is empty.

        Raises:
            CorruptError: The content cannot be packed as the layout says.
            StoreError: A file cannot be written.
        """
        worth = (content.nbytes - content.nbytes // _SHARE) // len(packings)
        for number, packing in reversed(list(enumerate(packings))):
            packed = self.scratch() if number else TargetFile(descriptor, self.path, self)
            packed.advance = share = Share(self.advance, worth, partial(int, content.nbytes))
            try:
                find_container(packing.container).pack(content, packing.recipe, packed)
            except FormatError as error:
                raise CorruptError(f"{shown_path(self.path)}: {error.message}", hint="git theta fsck --full") from error
            share.finish()
            content = packed


def while_packed(advance: Callable[[int], None], nbytes: int, content: int, packings: int = 1) -> Callable[[int], None]:
    """Return what counts the bytes of the content of a compressed file. Most of the work for the file is another.

    Args:
        advance: Counts the bytes of the file.
        nbytes: Their number.
        content: Size of the content.
        packings: How many containers the file is made with.
    """
    return Share(advance, nbytes // _SHARE**packings, lambda: content) if packings else advance
