"""Find the tensors in a checkpoint's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.fields import ChecksumField, Extent, in_file_order
from git_theta_ext.registry import detect_format, find_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Format
    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Field


@dataclass(frozen=True)
class Scan:
    """The tensors of a checkpoint file.

    Attributes:
        format: Name of the format.
        fields: Tensors and checksums of tensors, in file order.
        note: A note for the user; None if there is none.
        reason: Why a file of a known format cannot be split into tensors; None if it can.
    """

    format: str
    fields: tuple[Field, ...]
    note: str | None = None
    reason: str | None = None

    @cached_property
    def seeds(self) -> dict[str, set[int]]:
        """The seeds of the checksums of each tensor that has any."""
        seeds: dict[str, set[int]] = {}
        for field in self.fields:
            if isinstance(field, ChecksumField):
                seeds.setdefault(field.name, set()).add(field.seed)
        return seeds

    @cached_property
    def extents(self) -> tuple[Extent, ...]:
        """The positions of the tensors, in file order."""
        return tuple(field for field in self.fields if isinstance(field, Extent))


def scan(data: Content, path: str, format_name: str | None = None) -> Scan:
    """Find the tensors in a checkpoint.

    Args:
        data: The whole file.
        path: For messages.
        format_name: Value of the ``theta-format`` attribute; None to detect the format from the content.

    Raises:
        FormatError: The file does not follow its format.
        PluginError: The format is not installed.
    """
    file_format = find_format(format_name) if format_name else detect_format(data)
    note = reason = None
    try:
        try:
            fields = _parse(file_format, data)
        except NotSplittable as error:
            reason = f"{path}: {error}"
            note = f"{reason}; stored as an opaque file"
            file_format = find_format("opaque")
            fields = file_format.parse(data)
        return Scan(file_format.name, tuple(in_file_order(fields, data.nbytes)), note, reason)
    except FormatError as error:
        raise with_hint(error, path) from error


def with_hint(error: FormatError, path: str) -> FormatError:
    """Return an error that names the file, with a hint how to track it as an opaque file."""
    hint = error.hint or f"to track it as an opaque file, add 'theta-format=opaque' to {path} in .gitattributes"
    return FormatError(f"{path}: {error.message}", hint=hint)


def _parse(file_format: Format, data: Content) -> Sequence[Field]:
    try:
        return file_format.parse(data)
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        # An error that a plug-in did not expect must not look like a crash of git.
        raise FormatError(f"not a readable {file_format.name} file ({type(error).__name__}: {error})") from error
