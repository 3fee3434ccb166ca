"""Zip archives with compressed members: `.npz` of `np.savez_compressed`, `.mar`, `.keras`, `.zip`.

The content is the same archive with stored members, which formats read as any other. The CRC-32 of a member is zero in
it, so that it depends on no values, and is computed when the archive is packed. The recipe has two bytes for each
member in the order of the file: the parameters of its compressor, 0 and 1 if it was stored, and zeros if it is left as
it is, because it is empty or compressed in another way. How members are packed that are compressed files themselves
follows.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

from ._deflate import most_bytes, read_parameters
from ._inside import Budget, Inside, read_packings, write_packings
from ._spool import crc32, read, write
from ._zip_fields import DEFLATED, STORED, Sizes, read_archive
from ._zip_inside import unpack_inside, write_inside
from ._zip_members import compressed_members, unpack_members
from .gzip import CONTAINER as GZIP
from .zlib import CONTAINER as ZLIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Content, Target

    from ._compressors import Parameters
    from ._inside import InnerPacking
    from ._zip_fields import Archive, ArchiveMember

    class _Writable(Protocol):
        def write(self, offset: int, data: Buffer, /) -> None: ...


_MAGIC = b"PK\3\4"
_CHECKED = b"\0\1"


class ZipContainer:
    """Unpacks zip archives whose compressed members were made by zlib.

    Args:
        inside: The compressed files that members may be.
    """

    name = "zip"

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    def detect(self, data: Content) -> bool:
        """Return whether the file is an archive with a member that is compressed, or is an archive itself."""
        if bytes(data[: len(_MAGIC)]) != _MAGIC:
            return False
        try:
            return any(self._is_packed(data, member) for member in read_archive(data).members)
        except (FormatError, NotSplittable):
            return False

    def _is_packed(self, data: Content, member: ArchiveMember) -> bool:
        if member.method == DEFLATED:
            return member.size > 0
        part = member.part(data)
        return member.crc > 0 and (bytes(part[: len(_MAGIC)]) == _MAGIC or self._inside.detect(part))

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write an archive with stored members; None if one of them cannot be compressed again."""
        try:
            archive = read_archive(data)
            if sum(member.size for member in archive.members) > most_bytes(data.nbytes):
                return None
            budget = Budget(data.nbytes)
            places: list[tuple[ArchiveMember, int]] = []
            packings: dict[int, InnerPacking] = {}
            found: dict[int, Parameters | None] = {}

            def placed(member: ArchiveMember, at: int) -> Sizes:
                if not member.size or member.method not in (STORED, DEFLATED):
                    return _copied(data, member, target, at)
                if (inner := unpack_inside(self._inside, data, member, target)) is not None:
                    content, packings[member.number], found[member.number] = inner
                    budget.take(content.nbytes)
                    size = write(target, at, read(content))
                    return Sizes(STORED, 0, size, size)
                places.append((member, at))
                return Sizes(STORED, 0, member.size, member.size)

            _rewrite(data, archive, target, placed)
            for (member, _), parameters in zip(places, unpack_members(data, places, target), strict=True):
                found[member.number] = parameters
            if not _comes_back(data, archive, target):
                return None
        except (FormatError, NotSplittable):
            return None
        recipe = bytearray(2 * len(archive.members))
        for number, parameters in found.items():
            recipe[2 * number : 2 * number + 2] = _CHECKED if parameters is None else bytes(parameters)
        return bytes(recipe) + write_packings(packings)

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the archive with the members compressed that the recipe says."""
        try:
            archive = read_archive(data)
            count = len(archive.members)
            if len(recipe) < 2 * count:
                raise FormatError(f"an archive of {count} members does not fit its recipe")
            packings = read_packings(recipe[2 * count :], count)
            chosen = {member: recipe[2 * member.number :][:2] for member in archive.members}
            parameters = {m: read_parameters(two) for m, two in chosen.items() if any(two) and two != _CHECKED}
            plain = {m: found for m, found in parameters.items() if m.number not in packings}
            with closing(compressed_members(data, plain, target)) as compressed:

                def packed(member: ArchiveMember, at: int) -> Sizes:
                    if (packing := packings.get(member.number)) is not None:
                        content = self._inside.pack(member.part(data), packing, target)
                        return write_inside(content, parameters.get(member), target, at)
                    if member in plain:
                        return next(compressed)(at)
                    sizes = _copied(data, member, target, at)
                    return sizes._replace(crc=crc32(member.part(data))) if chosen[member] == _CHECKED else sizes

                _rewrite(data, archive, target, packed)
        except NotSplittable as error:
            raise FormatError(str(error)) from error


FLAT = ZipContainer(Inside(()))
"""For archives in archives: what is in their members is left as it is."""
CONTAINER = ZipContainer(Inside((GZIP, FLAT, ZLIB)))


def _copied(data: Content, member: ArchiveMember, target: Target, at: int) -> Sizes:
    return Sizes(member.method, member.crc, write(target, at, read(member.part(data))), member.size)


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
        return Sizes(before.method, before.crc, before.end - before.start, before.size)

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
