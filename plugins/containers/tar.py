"""Tar archives whose members are compressed files, such as a `.tar` with `model.safetensors.gz` in it.

The content is the same archive with the contents of these members, under the same names. The recipe has how each of
them is packed.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable, Part

# The package has another name where it is installed.
from ..formats._tar_members import BLOCK, TarMember, is_tar, members, with_size  # noqa: TID252 - the package has another name where it is installed
from ._inside import Budget, InnerPacking, Inside, read_packings, write_packings
from ._spool import read, write
from .gzip import CONTAINER as GZIP
from .zip import FLAT as ZIP
from .zlib import CONTAINER as ZLIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.interfaces import Content, Target

_INSIDE = Inside((GZIP, ZIP, ZLIB))
_MOST_MEMBERS = 10_000


class TarContainer:
    """Unpacks the compressed members of a tar archive."""

    name = "tar"

    def detect(self, data: Content) -> bool:
        """Return whether the file is an archive with a compressed member; False if it is damaged."""
        try:
            return is_tar(data) and any(_INSIDE.detect(_part(data, one)) for one in members(data))
        except (FormatError, NotSplittable):
            return False

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write an archive with the contents of its members; None if no compressed member comes back."""
        budget = Budget(data.nbytes)
        packings: dict[int, InnerPacking] = {}

        def content(number: int, member: TarMember) -> Content | None:
            found = _INSIDE.unpack(_part(data, member), target) if _is_plain(data, member) else None
            if found is None or with_size(_header(data, member), found.content.nbytes) is None:
                return None
            budget.take(found.content.nbytes)
            packings[number] = found.packing
            return found.content

        try:
            _rewrite(data, target, content)
        except (FormatError, NotSplittable):
            return None
        return write_packings(packings) or None

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the archive with its members compressed."""
        try:
            packings = read_packings(recipe, sum(1 for _ in members(data)))

            def packed(number: int, member: TarMember) -> Content | None:
                packing = packings.get(number)
                return None if packing is None else _INSIDE.pack(_part(data, member), packing, target)

            _rewrite(data, target, packed)
        except NotSplittable as error:
            raise FormatError(str(error)) from error


CONTAINER = TarContainer()


def _rewrite(data: Content, target: Target, replaced: Callable[[int, TarMember], Content | None]) -> None:
    """Write an archive in which some members have other contents."""
    start = at = 0
    for number, member in enumerate(islice(members(data), _MOST_MEMBERS)):
        content = replaced(number, member)
        if content is None:
            continue
        header = with_size(_header(data, member), content.nbytes)
        if header is None:
            raise FormatError(f"the header of {member.name!r} has no room for {content.nbytes} bytes")
        at += write(target, at, read(Part(data, start, member.start - BLOCK)))
        at += write(target, at, chain([header], read(content), [bytes(-content.nbytes % BLOCK)]))
        start = member.start + member.size + -member.size % BLOCK
    write(target, at, read(Part(data, start, data.nbytes)))


def _part(data: Content, member: TarMember) -> Part:
    return Part(data, member.start, member.start + member.size)


def _header(data: Content, member: TarMember) -> bytes:
    return bytes(data[member.start - BLOCK : member.start])


def _is_plain(data: Content, member: TarMember) -> bool:
    """Return whether the header and the padding of a member are what they would be if they were written again."""
    end = member.start + member.size
    padding = data[end : end + -member.size % BLOCK]
    header = _header(data, member)
    return with_size(header, member.size) == header and padding.nbytes == -member.size % BLOCK and not any(padding)
