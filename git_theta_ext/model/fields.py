"""The fields that a format finds in a checkpoint: tensors and checksums, with their positions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.model.tensor import TensorSpec

MAX_SKELETON = 1 << 28
"""The limit in bytes of a skeleton. A file with more bytes outside its tensors is opaque."""

CHECKSUM_BYTES = 4
_SPLIT_CHARACTER = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True)
class Extent:
    """The position of a tensor in a file. Its bytes are contiguous and little-endian.

    Raises:
        FormatError: The name has both halves of a surrogate pair, which JSON cannot tell from the character.
    """

    name: str
    spec: TensorSpec
    offset: int

    def __post_init__(self) -> None:
        if _SPLIT_CHARACTER.search(self.name):
            raise FormatError(f"parameter {self.name!r} has a name that JSON cannot represent")

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.spec.nbytes


@dataclass(frozen=True, slots=True)
class ChecksumField:
    """The position in a file of the CRC-32 (zlib's, little-endian) of a tensor's bytes.

    ``seed`` is the CRC-32 of the literal bytes before the tensor that the checksum also covers, such as a header.
    """

    name: str
    offset: int
    seed: int = 0

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + CHECKSUM_BYTES


@dataclass(frozen=True, slots=True)
class RangeChecksumField:
    """The position in a file of the CRC-32 (zlib's, little-endian) of a range with tensors and literal bytes.

    The range begins at ``start`` and ends before ``stop``. It contains no checksum that is a field.
    """

    start: int
    stop: int
    offset: int

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + CHECKSUM_BYTES


Field = Extent | ChecksumField | RangeChecksumField


def moved(field: Field, by: int, prefix: str = "") -> Field:
    """Return a field of a file that is part of another, such as a member of an archive, as a field of the whole.

    Args:
        field: The field.
        by: The offset of the part.
        prefix: What is put before the names of its parameters.
    """
    if isinstance(field, RangeChecksumField):
        return RangeChecksumField(field.start + by, field.stop + by, field.offset + by)
    return replace(field, name=prefix + field.name, offset=field.offset + by)


def _subject(field: Field) -> str:
    if isinstance(field, RangeChecksumField):
        return f"the checksum of bytes {field.start} to {field.stop}"
    return f"parameter {field.name!r}"


def in_file_order(fields: Iterable[Field], nbytes: int) -> list[Field]:
    """Check the fields of a file of a given size, and return them in file order.

    Raises:
        FormatError: A field is not inside the file or overlaps another. The message names the parameter.
    """
    ordered = sorted(fields, key=lambda field: (field.offset, field.end))
    outside = nbytes - sum(field.spec.nbytes for field in ordered if isinstance(field, Extent))
    if outside > MAX_SKELETON:
        raise FormatError(f"{outside} bytes outside the tensors exceed the limit of {MAX_SKELETON}")
    at = 0
    for field in ordered:
        if not 0 <= field.offset <= field.end <= nbytes:
            position = f"at bytes {field.offset} to {field.end}, outside the file of {nbytes} bytes"
            raise FormatError(f"{_subject(field)} is {position}")
        if field.offset < at:
            raise FormatError(f"{_subject(field)} at byte {field.offset} overlaps the one before it")
        at = field.end
    return ordered
