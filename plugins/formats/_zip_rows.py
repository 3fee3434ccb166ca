"""Find the archives in a file that is a row of zip archives."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

_BEGIN, _END, _LOCATOR = b"PK\3\4", b"PK\5\6", b"PK\6\7"
_END_FIELDS = struct.Struct("<4s4H2LH")
_LOCATOR_FIELDS = struct.Struct("<4sLQL")
_END64_SIZE = 56  # without extensions, which no writer of rows uses
_SLAB = 1 << 22
_MOST = 1 << 20


def is_row(data: Content) -> bool:
    """Return whether a file begins with an archive and ends with another; reads its ends only."""
    at = data.nbytes - _END_FIELDS.size
    if at < 0 or bytes(data[:4]) != _BEGIN or bytes(data[at : at + 4]) != _END:
        return False
    start = _start(data, at)
    return 0 < start < at and bytes(data[start : start + 4]) == _BEGIN


def archives(data: Content) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each archive.

    Raises:
        NotSplittable: They do not cover the file, or there are too many.
    """
    start = count = 0
    for at in _occurrences(data, _END):
        # The bytes of a tensor may look like an end, which then points anywhere but to where the archive begins.
        if at >= start and at + _END_FIELDS.size <= data.nbytes and _start(data, at) == start:
            end = at + _END_FIELDS.size
            yield start, end
            start = end
            count += 1
            if count > _MOST:
                raise NotSplittable(f"it has more than {_MOST} archives")
    if start != data.nbytes:
        raise NotSplittable(f"bytes {start} to {data.nbytes} belong to no zip archive")


def _start(data: Content, at: int) -> int:
    """Return where the archive begins that ends with the record at an offset; -1 if the record makes no sense."""
    _, _, _, _, _, size, offset, comment = _END_FIELDS.unpack(data[at : at + _END_FIELDS.size])
    locator = at - _LOCATOR_FIELDS.size
    if locator >= _END64_SIZE and bytes(data[locator : locator + 4]) == _LOCATOR:
        return locator - _END64_SIZE - int(_LOCATOR_FIELDS.unpack(data[locator:at])[2])
    return -1 if comment else int(at - size - offset)


def _occurrences(data: Content, pattern: bytes) -> Iterator[int]:
    for begin in range(0, data.nbytes, _SLAB):
        slab = bytes(data[begin : begin + _SLAB + len(pattern) - 1])
        at = slab.find(pattern)
        while at >= 0:
            yield begin + at
            at = slab.find(pattern, at + 1)
