"""The checksums in a checkpoint whose bytes are given by a layout and tensors."""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from git_theta_ext.model.crc32 import crc32_combine
from git_theta_ext.model.layout import Checksum, Literal, RangeChecksum, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.model.layout import Layout


def seeds_of(layout: Layout) -> dict[str, set[int]]:
    """Return the seeds from which on the CRC-32 of each tensor is needed to write the file."""
    seeds: dict[str, set[int]] = {}
    if not layout.has_checksums:  # as in most files
        return seeds
    ranges = layout.ranges
    starts = [start for start, _ in ranges]
    for at, segment in layout.located():
        if isinstance(segment, Checksum):
            seeds.setdefault(segment.name, set()).add(segment.seed)
        elif isinstance(segment, Slice) and (number := bisect_right(starts, at)) and at < ranges[number - 1][1]:
            seeds.setdefault(segment.name, set()).add(0)
    return seeds


def checksums(layout: Layout, crc: Callable[[str, int], int]) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of every checksum.

    Args:
        layout: The layout of the file.
        crc: Returns the CRC-32 of a tensor's bytes, given its name and a seed.
    """
    if not layout.has_checksums:
        return
    located = list(layout.located())
    starts = [at for at, _ in located]
    of_ranges: dict[tuple[int, int], int] = {}
    for start, stop in layout.ranges:
        value = 0
        for at, segment in located[max(0, bisect_right(starts, start) - 1) : bisect_left(starts, stop)]:
            if isinstance(segment, Literal):
                value = zlib.crc32(memoryview(segment.data)[max(0, start - at) : stop - at], value)
            elif isinstance(segment, Slice) and segment.nbytes:
                value = crc32_combine(value, crc(segment.name, 0), segment.nbytes)
        of_ranges[start, stop] = value
    for at, segment in located:
        if isinstance(segment, RangeChecksum):
            yield at, of_ranges[segment.start, segment.stop].to_bytes(4, "little")
        elif isinstance(segment, Checksum):
            yield at, crc(segment.name, segment.seed).to_bytes(4, "little")
