"""Zip archives with compressed members: `.npz` of `np.savez_compressed`, `.mar`, `.keras`, `.zip`.

The content is the same archive with stored members, which formats read as any other. The CRC-32 of a member is zero in
it, so that it depends on no values, and is computed when the archive is packed. The recipe has two bytes for each
member in the order of the file: the parameters of its compressor, 0 and 1 if it was stored, and zeros if it is left as
it is, because it is empty or compressed in another way.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

from ._deflate import most_bytes, read_parameters
from ._spool import crc32, read, write
from ._zip_fields import DEFLATED, STORED, Sizes, needs_packing, read_archive
from ._zip_members import compressed_members, unpack_members

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Content, Target

    from ._zip_fields import Archive, ArchiveMember

    class _Writable(Protocol):
        def write(self, offset: int, data: Buffer, /) -> None: ...


_MAGIC = b"PK\3\4"
_CHECKED = b"\0\1"


class ZipContainer:
    """Unpacks zip archives whose compressed members were made by zlib."""

    name = "zip"

    def detect(self, data: Content) -> bool:
        """Return whether the file is an archive with a compressed member."""
        return bytes(data[: len(_MAGIC)]) == _MAGIC and needs_packing(data)

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write an archive with stored members; None if one of them cannot be compressed again."""
        try:
            archive = read_archive(data)
            if sum(member.size for member in archive.members) > most_bytes(data.nbytes):
                return None
            places: list[tuple[ArchiveMember, int]] = []

            def placed(member: ArchiveMember, at: int) -> Sizes:
                if not member.size or member.method not in (STORED, DEFLATED):
                    return Sizes(member.method, member.crc, write(target, at, read(member.part(data))))
                places.append((member, at))
                return Sizes(STORED, 0, member.size)

            _rewrite(data, archive, target, placed)
            found = unpack_members(data, places, target)
            if not _comes_back(data, archive, target):
                return None
        except (FormatError, NotSplittable):
            return None
        recipe = bytearray(2 * len(archive.members))
        for (member, _), parameters in zip(places, found, strict=True):
            recipe[2 * member.number : 2 * member.number + 2] = _CHECKED if parameters is None else bytes(parameters)
        return bytes(recipe)

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the archive with the members compressed that the recipe says."""
        try:
            archive = read_archive(data)
            if len(recipe) != 2 * len(archive.members):
                raise FormatError(f"an archive of {len(archive.members)} members does not fit its recipe")
            chosen = {member: recipe[2 * member.number :][:2] for member in archive.members}
            parameters = {m: read_parameters(two) for m, two in chosen.items() if any(two) and two != _CHECKED}
            with closing(compressed_members(data, parameters, target)) as compressed:

                def packed(member: ArchiveMember, at: int) -> Sizes:
                    if member in parameters:
                        return next(compressed)(at)
                    part = member.part(data)
                    checksum = crc32(part) if chosen[member] == _CHECKED else member.crc
                    return Sizes(member.method, checksum, write(target, at, read(part)))

                _rewrite(data, archive, target, packed)
        except NotSplittable as error:
            raise FormatError(str(error)) from error


CONTAINER = ZipContainer()


def _rewrite(data: Content, archive: Archive, target: _Writable, write: Callable[[ArchiveMember, int], Sizes]) -> None:
    """Write an archive whose members have other contents; ``write`` writes one at an offset."""
    at = 0
    moved: dict[int, tuple[int, Sizes]] = {}
    for member in archive.members:
        header = bytearray(data[member.header : member.start])
        sizes = write(member, at + len(header))
        member.patch_header(header, sizes)
        target.write(at, header)
        moved[member.number] = at, sizes
        at += len(header) + sizes.packed
        descriptor = bytearray(data[member.end : member.limit])
        member.patch_descriptor(descriptor, sizes)
        target.write(at, descriptor)
        at += len(descriptor)
    target.write(at, archive.directory_at(at, moved))


def _comes_back(data: Content, archive: Archive, content: Content) -> bool:
    """Return whether packing gives the same headers; that the members come back is known."""
    check = _Comparing(data)

    def known(member: ArchiveMember, at: int) -> Sizes:
        before = archive.members[member.number]
        check.equal &= at == before.start
        return Sizes(before.method, before.crc, before.end - before.start)

    _rewrite(content, read_archive(content), check, known)
    return check.equal and check.nbytes == data.nbytes


class _Comparing:
    """Compares what is written with a file."""

    def __init__(self, data: Content) -> None:
        self._data = data
        self.nbytes = 0
        self.equal = True

    def write(self, offset: int, data: Buffer) -> None:
        end = offset + memoryview(data).nbytes
        self.nbytes = max(self.nbytes, end)
        self.equal = self.equal and self._data[offset:end] == data
