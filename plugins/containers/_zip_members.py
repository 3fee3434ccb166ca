"""Compress and unpack the members of a zip archive in threads, with the result that one thread has."""

from __future__ import annotations

import zlib
from contextlib import closing
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Part

from ._compressors import FIRST_TRIED
from ._deflate import deflate, find_parameters, inflate
from ._spool import Spool, crc32, read, write
from ._threads import in_order
from ._zip_fields import DEFLATED, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from git_theta_ext.interfaces import Content, Target

    from ._compressors import Parameters
    from ._zip_fields import ArchiveMember

_HEAD = 32


def compressed_members(
    data: Content, members: Mapping[ArchiveMember, Parameters], target: Target
) -> Generator[Callable[[int], Sizes], None, None]:
    """Yield, for each member, what writes it compressed at an offset of the target.

    Members are compressed in threads before their turn, and held in temporary files if they are large.

    Args:
        data: The archive with the contents.
        members: The members, and the parameters of their compressors.
        target: The archive that is written.
    """

    def pieces(member: ArchiveMember, threads: int = 1) -> Iterator[bytes]:
        return deflate(member.part(data), members[member], target.advance, threads)

    def ahead(member: ArchiveMember) -> Callable[[int], Sizes]:
        spool, checksum = Spool(pieces(member), target), crc32(member.part(data))
        return lambda at: Sizes(DEFLATED, checksum, spool.copy_to(target, at), member.size)

    def in_turn(member: ArchiveMember) -> Callable[[int], Sizes]:
        return lambda at: Sizes(
            DEFLATED, crc32(member.part(data)), write(target, at, pieces(member, target.threads)), member.size
        )

    if target.threads == 1 or len(members) == 1:
        yield from map(in_turn, members)
        return
    yield from in_order(ahead, members, target.threads)


def unpack_members(
    data: Content, places: Sequence[tuple[ArchiveMember, int]], target: Target
) -> list[Parameters | None]:
    """Write the contents of members, and return the parameters of their compressors; None for stored ones.

    The parameters of a member are tried first with the next one. A thread may not know them yet: then it tries others,
    and what it finds counts only if it would have been found in turn.

    Args:
        data: The archive.
        places: The members, and the offsets of their contents in the target.
        target: The archive with the contents.

    Raises:
        FormatError: A member is damaged, or cannot be compressed to the same bytes.
    """
    hint = FIRST_TRIED

    def find(member: ArchiveMember, at: int, hint: Parameters) -> Parameters | None:
        return find_parameters(member.part(data), Part(target, at, at + member.size), target.advance, hint)

    def unpack(place: tuple[ArchiveMember, int]) -> tuple[Parameters, Parameters | None]:
        write_content(data, *place, target)
        guess = hint
        return guess, find(*place, guess) if place[0].method == DEFLATED else None

    found: list[Parameters | None] = []
    with closing(in_order(unpack, places, target.threads)) as results:
        for place, (guess, guessed) in zip(places, results, strict=True):
            parameters = None
            if place[0].method == DEFLATED:
                parameters = guessed if hint in (guess, guessed) else find(*place, hint)
                if parameters is None:
                    raise FormatError("a member cannot be compressed to the same bytes")
                hint = parameters
            found.append(parameters)
    return found


def begins(data: Content, member: ArchiveMember) -> bytes:
    """Return the first bytes of the content of a member."""
    part = member.part(data)
    pieces: Iterator[bytes | memoryview] = inflate(part, member.size) if member.method == DEFLATED else read(part)
    return bytes(next(pieces, b"")[:_HEAD])


def write_content(data: Content, member: ArchiveMember, at: int, target: Target) -> None:
    """Write the content of a member at an offset.

    Raises:
        FormatError: The member is damaged.
    """
    size = checksum = 0
    part = member.part(data)
    for piece in inflate(part, member.size) if member.method == DEFLATED else read(part):
        target.write(at + size, piece)
        size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    if (size, checksum) != (member.size, member.crc):
        raise FormatError("a member has another size or checksum than the directory says")
