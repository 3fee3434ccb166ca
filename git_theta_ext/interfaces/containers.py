"""Take compressed files apart and make them again: the interface of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from git_theta_ext.model.content import Content

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer


class Target(Content, Protocol):
    """A file that is being written. What was written can be read back, also by other threads."""

    @property
    def threads(self) -> int:
        """Number of threads that may compress at the same time."""
        ...

    @property
    def advance(self) -> Callable[[int], None]:
        """Call this with the number of bytes of content that were compressed since the last call, to show progress."""
        ...

    def another(self) -> Target:
        """Return an empty temporary file, which vanishes with the object, for what must not be held in memory."""
        ...

    def write(self, offset: int, data: Buffer, /) -> None:
        """Write bytes at an offset, which may be beyond the end.

        Raises:
            StoreError: The disk is full, or fails.
        """
        ...


class Container(Protocol):
    """Unpacks files whose content is compressed, so that a format can find tensors in it.

    Attributes:
        name: The name in skeletons.
    """

    name: str

    def detect(self, data: Content) -> bool:
        """Return whether the content looks like such a file; fast, and raises nothing."""
        ...

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write the content without compression, and return how the file is made again.

        The result is a pure function of ``data``, on every machine. It does not depend on the bytes of tensors: files
        that the same program wrote with the same options have equal recipes.

        Args:
            data: The whole file. Sizes that it states are limited before they are used.
            target: An empty file.

        Returns:
            What ``pack`` needs besides the content; None if it could not make the same bytes again.
        """
        ...

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write a file with some content; the inverse of ``unpack``, on every machine.

        Args:
            data: The content, of which a merge may have changed the values of tensors.
            recipe: From ``unpack``.
            target: An empty file.

        Raises:
            FormatError: The recipe is damaged, or does not fit the content.
        """
        ...
