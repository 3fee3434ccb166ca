"""Unpack and pack members of zip archives that are compressed files themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.errors import FormatError

from ._deflate import deflate, find_parameters
from ._spool import crc32, read, write
from ._zip_fields import DEFLATED, STORED, Sizes
from ._zip_members import begins, write_content

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content, Target

    from ._compressors import Parameters
    from ._inside import InnerPacking, Inside
    from ._zip_fields import ArchiveMember

_MAGICS = (b"PK\3\4", b"\x1f\x8b\x08", b"\x78")


class UnpackedMember(NamedTuple):
    """The content of the compressed file that a member is, how it is packed, and how that is compressed once more."""

    content: Target
    packing: InnerPacking
    parameters: Parameters | None


def unpack_inside(inside: Inside, data: Content, member: ArchiveMember, target: Target) -> UnpackedMember | None:
    """Return what is in a member that is a compressed file; None if it is none, or would not come back.

    Args:
        inside: What it may be.
        data: The archive.
        member: The member.
        target: The archive that is written.

    Raises:
        FormatError: The member is damaged.
    """
    if not begins(data, member).startswith(_MAGICS):
        return None
    file: Content = member.part(data)
    if member.method == DEFLATED:
        inflated = target.another()
        write_content(data, member, 0, inflated)
        file = inflated
    elif crc32(file) != member.crc:
        raise FormatError("a member has another checksum than the directory says")
    found = inside.unpack(file, target)
    if found is None:
        return None
    parameters = None
    if member.method == DEFLATED:
        parameters = find_parameters(member.part(data), file, target.advance, threads=target.threads)
        if parameters is None:
            return None
    return UnpackedMember(found.content, found.packing, parameters)


def write_inside(content: Content, parameters: Parameters | None, target: Target, at: int) -> Sizes:
    """Write a compressed file as a member, and return what headers say about it."""
    checksum = crc32(content)
    if parameters is None:
        return Sizes(STORED, checksum, write(target, at, read(content)), content.nbytes)
    made = write(target, at, deflate(content, parameters, target.advance, target.threads))
    return Sizes(DEFLATED, checksum, made, content.nbytes)
