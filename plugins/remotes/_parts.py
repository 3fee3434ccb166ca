"""The file of an index that stands for a pack in parts, one after another: git blobs, or objects of an LFS server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_FILE = 1 << 20
"""Maximum size of the file in bytes."""

_FIRST = "git-theta parts 1"
_LINE = re.compile(r"([0-9a-f]{64}|[0-9a-f]{40}) (0|[1-9][0-9]{0,14})")
_PATH = re.compile(r"parts/([0-9a-f]{2})/([0-9a-f]{62})")


@dataclass(frozen=True)
class Part:
    """A git blob, or an object of an LFS server.

    Attributes:
        oid: Its object id.
        size: Its size in bytes.
    """

    oid: str
    size: int


Parts = tuple[Part, ...]


def pack_key(name: str) -> str:
    """Return the key of a pack."""
    return f"packs/{name[:2]}/{name}"


def parts_path(name: str) -> str:
    """Return the path of the file that stands for a pack."""
    return f"parts/{name[:2]}/{name[2:]}"


def pack_of_parts_path(path: str) -> str | None:
    """Return the name of the pack that the file at a path stands for; None for other paths."""
    match = _PATH.fullmatch(path)
    return match[1] + match[2] if match else None


def format_parts(parts: Sequence[Part]) -> bytes:
    """Return the file for some parts."""
    return "".join([f"{_FIRST}\n", *(f"{part.oid} {part.size}\n" for part in parts)]).encode()


def parse_parts(data: bytes) -> Parts:
    """Return the parts in a file.

    Raises:
        CorruptError: It is not such a file.
    """
    first, *lines = data.decode(errors="replace").split("\n")
    matches = [_LINE.fullmatch(line) for line in lines[:-1]]
    if first != _FIRST or not lines or lines[-1] or None in matches:
        raise CorruptError("a file of the index does not list the parts of a pack")
    return tuple(Part(match[1], int(match[2])) for match in matches if match)


def total(parts: Sequence[Part]) -> int:
    """Return the size of all parts in bytes."""
    return sum(part.size for part in parts)


def overlapping(parts: Sequence[Part], start: int, end: int) -> list[tuple[Part, slice]]:
    """Return the parts with bytes of a pack from ``start`` up to ``end``, and which bytes of each part these are."""
    ends = accumulate(part.size for part in parts)
    placed = ((part, stop - part.size, stop) for part, stop in zip(parts, ends, strict=True))
    return [
        (part, slice(max(start - first, 0), min(end, stop) - first))
        for part, first, stop in placed
        if max(first, start) < min(stop, end)
    ]


def grouped(wanted: Sequence[tuple[Part, slice]], most: int) -> Iterator[list[tuple[Part, slice]]]:
    """Divide parts into groups of at most ``most`` bytes, but of at least one part."""
    group: list[tuple[Part, slice]] = []
    for item in wanted:
        if group and total([part for part, _ in [*group, item]]) > most:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
