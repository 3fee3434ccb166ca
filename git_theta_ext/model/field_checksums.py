"""Compare the checksums in a checkpoint with the bytes that they are of."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.model.crc32 import crc32_combine
from git_theta_ext.model.fields import Extent, RangeChecksumField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Field

    OfTensor = Callable[[Extent, int], int]


def right_checksums(data: Content, ordered: Sequence[Field], checksum: OfTensor) -> set[int]:
    """Return the offsets of the checksums that are right, or of a tensor that is not there.

    Args:
        data: The whole file.
        ordered: All fields, in file order.
        checksum: Returns the CRC-32 of a tensor's bytes, continued from a seed.

    Raises:
        FormatError: Two checksums are of ranges that overlap.
    """
    sums = [field for field in ordered if not isinstance(field, Extent)]
    extents = {field.name: field for field in ordered if isinstance(field, Extent)} if sums else {}
    ranges = _range_sums(data, ordered, checksum)
    right = set()
    for field in sums:
        if isinstance(field, RangeChecksumField):
            expected = ranges[field.start, field.stop]
        else:
            extent = extents.get(field.name)
            expected = (
                checksum(extent, field.seed) if extent else int.from_bytes(data[field.offset : field.end], "little")
            )
        if expected is not None and data[field.offset : field.end] == expected.to_bytes(4, "little"):
            right.add(field.offset)
    return right


def check_disjoint(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the different ranges among some, in order.

    Raises:
        FormatError: Two of them overlap, so that checking all could take quadratic time.
    """
    ordered = sorted(set(ranges))
    for (_, stop), (start, _) in pairwise(ordered):
        if start < stop:
            raise FormatError(f"two checksums are of ranges that overlap at byte {start}")
    return ordered


def tensors_in_ranges(fields: Iterable[Field]) -> set[str]:
    """Return the names of the tensors that are in the range of a checksum."""
    ordered = sorted(fields, key=lambda field: field.offset)
    names: set[str] = set()
    offsets = [field.offset for field in ordered]
    for start, stop in {(field.start, field.stop) for field in ordered if isinstance(field, RangeChecksumField)}:
        inside = ordered[bisect_left(offsets, start) : bisect_left(offsets, stop)]
        names.update(field.name for field in inside if isinstance(field, Extent))
    return names


def _range_sums(data: Content, ordered: Sequence[Field], checksum: OfTensor) -> dict[tuple[int, int], int | None]:
    """Return the CRC-32 of each range that has a checksum; None if it does not contain whole tensors only."""
    ranges = check_disjoint((field.start, field.stop) for field in ordered if isinstance(field, RangeChecksumField))
    if not ranges:
        return {}
    offsets = [field.offset for field in ordered]
    return {
        (start, stop): _range_sum(
            data, start, stop, ordered[bisect_left(offsets, start) : bisect_left(offsets, stop)], checksum
        )
        for start, stop in ranges
    }


def _range_sum(data: Content, start: int, stop: int, inside: Sequence[Field], checksum: OfTensor) -> int | None:
    value, at = 0, start
    for field in inside:
        if not isinstance(field, Extent) or field.end > stop:
            return None
        value = zlib.crc32(data[at : field.offset], value)
        if field.spec.nbytes:
            value = crc32_combine(value, checksum(field, 0), field.spec.nbytes)
        at = field.end
    return zlib.crc32(data[at:stop], value)
