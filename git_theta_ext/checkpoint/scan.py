"""Find the tensors in a checkpoint's bytes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.packing import Packer, while_packed
from git_theta_ext.errors import FormatError, PluginError
from git_theta_ext.interfaces import NotedFields, NotSplittable
from git_theta_ext.model.field_checksums import tensors_in_ranges
from git_theta_ext.model.fields import ChecksumField, Extent, in_file_order
from git_theta_ext.records import dataclass, replace
from git_theta_ext.registry import detect_format, find_format
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from git_theta_ext.interfaces import Format
    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Field
    from git_theta_ext.model.layout import Packing
    from git_theta_ext.util.written_file import WrittenFile

_OPAQUE = "opaque"
_MOST_NESTED = 2
"""How many containers may be in each other, such as a compressed npz file in a gzip file."""


@dataclass(frozen=True)
class Scan:
    """The tensors of a checkpoint file.

    Attributes:
        format: Name of the format.
        fields: Tensors and checksums, in file order.
        note: A note for the user; None if there is none.
        reason: Why a file of a known format cannot be split into tensors; None if it can.
        malformed: How the file breaks its format; None if it does not. It is then an opaque file.
        unpacked: A temporary file with the content of a compressed file, which the fields are in; None for other files.
        packings: How the file is made of that content, the last first.
    """

    format: str
    fields: tuple[Field, ...]
    note: str | None = None
    reason: str | None = None
    malformed: FormatError | None = None
    unpacked: WrittenFile | None = None
    packings: tuple[Packing, ...] = ()

    @cached_property
    def seeds(self) -> dict[str, set[int]]:
        """The seeds of the checksums of each tensor that has any, or is in the range of one."""
        seeds: dict[str, set[int]] = {name: {0} for name in tensors_in_ranges(self.fields)}
        for field in self.fields:
            if isinstance(field, ChecksumField):
                seeds.setdefault(field.name, set()).add(field.seed)
        return seeds

    @cached_property
    def extents(self) -> tuple[Extent, ...]:
        """The positions of the tensors, in file order."""
        return tuple(field for field in self.fields if isinstance(field, Extent))


def scan(  # noqa: PLR0913 - named, and all but the first two have defaults
    data: Content,
    path: str,
    format_name: str | None = None,
    root: Path | None = None,
    *,
    threads: int = 0,
    advance: Callable[[int], None] = no_progress,
) -> Scan:
    """Find the tensors in a checkpoint, or in its content if it is compressed.

    A file that does not follow its format is an opaque file.

    Args:
        data: The whole file.
        path: For messages.
        format_name: Value of the ``theta-format`` attribute; None to detect the format from the content.
        root: Root of the store, for temporary files; None if there is none.
        threads: Number of threads that unpack a compressed file; 0 for one per CPU.
        advance: Called with the number of bytes done since the last call; most of those of a compressed file.

    Raises:
        PluginError: The format is not installed, or fails.
        StoreError: The content of a compressed file cannot be written to a temporary file.
    """
    return _scan(data, format_name, Packer(path, root, threads, advance), _MOST_NESTED)


def _scan(data: Content, format_name: str | None, packer: Packer, nested: int) -> Scan:
    path = packer.path
    file_format = find_format(format_name) if format_name else detect_format(data)
    reason = None
    try:
        if file_format.name != _OPAQUE:
            fields = _parse(file_format, data, path)
            note = f"{shown_path(path)}: {fields.note}" if isinstance(fields, NotedFields) and fields.note else None
            return Scan(file_format.name, tuple(in_file_order(fields, data.nbytes)), note)
    except NotSplittable as error:
        reason = f"{shown_path(path)}: {error}"
    except FormatError as error:
        return malformed(data, path, error)
    unpacked = packer.unpack(data) if nested and format_name != _OPAQUE else None
    if isinstance(unpacked, tuple):
        content, packing = unpacked
        advance = while_packed(packer.advance, data.nbytes, content.nbytes)
        inner = _scan(content, format_name, replace(packer, advance=advance), nested - 1)
        return replace(inner, unpacked=inner.unpacked or content, packings=(packing, *inner.packings))
    reason = reason or unpacked
    return _opaque(data, reason, note=None if reason is None else f"{reason}; stored as an opaque file")


def malformed(data: Content, path: str, error: FormatError) -> Scan:
    """Return the chunks of a file that does not follow its format.

    Args:
        data: The whole file.
        path: For messages.
        error: How it breaks the format, without the path.
    """
    hint = (
        error.hint
        or f"to track it as an opaque file, add 'theta-format=opaque' to {shown_path(path)} in .gitattributes"
    )
    named = FormatError(f"{shown_path(path)}: {error.message}", hint=hint)
    return _opaque(data, named.message, malformed=named)


def _opaque(
    data: Content, reason: str | None, *, note: str | None = None, malformed: FormatError | None = None
) -> Scan:
    opaque = find_format(_OPAQUE)
    return Scan(opaque.name, tuple(opaque.parse(data)), note, reason, malformed)


def _parse(file_format: Format, data: Content, path: str) -> Sequence[Field]:
    try:
        return file_format.parse(data)
    except (ValueError, OverflowError) as error:
        # An error that a plug-in did not expect must not look like a crash of git.
        message = f"not a readable {file_format.name} file ({type(error).__name__}: {error})"
        raise FormatError(message) from error
    except RecursionError as error:
        # How deep calls may be differs between machines, and the manifest must not.
        raise PluginError(
            f"{shown_path(path)}: the format {file_format.name} takes too many nested calls to read it"
        ) from error
