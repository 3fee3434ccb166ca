"""Zip archives with compressed members: `.npz` of `np.savez_compressed`, `.mar`, `.keras`, `.zip`.

The content is the same archive with stored members, which formats read as any other. The CRC-32 of a member that was
compressed is zero in it, so that it depends on no values, and is computed when the archive is packed. The recipe has
two bytes for each member in the order of the file: the parameters of its compressor, or zeros if it was not compressed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

from ..formats._part import Part  # noqa: TID252 - the package has another name where it is installed
from ._deflate import Parameters, deflate, find_parameters, inflate, most_bytes, read_parameters
from ._zip_fields import DEFLATED, Sizes, has_deflated, read_archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Content, Target

    from ._zip_fields import Archive, ArchiveMember

_MAGIC = b"PK\3\4"
_STORED = 0


class ZipContainer:
    """Unpacks zip archives whose compressed members were made by zlib."""

    name = "zip"

    def detect(self, data: Content) -> bool:
        """Return whether the file is an archive with a compressed member."""
        return bytes(data[: len(_MAGIC)]) == _MAGIC and has_deflated(data)

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write an archive with stored members; None if one of them cannot be compressed again."""
        try:
            archive = read_archive(data)
            compressed = {member.number for member in archive.members if member.method == DEFLATED and member.size}
            if sum(member.size for member in archive.members) > most_bytes(data.nbytes):
                return None
            unpacked: dict[int, _Unpacked] = {}

            def inflated(member: ArchiveMember, at: int) -> Sizes:
                if member.number not in compressed:
                    return _copied(data, member, target, at)
                unpacked[member.number] = _Unpacked(at, *_inflate(data, member, target, at))
                return Sizes(_STORED, 0, member.size)

            _rewrite(data, archive, target, inflated)
            if any(made != (member.size, member.crc) for member, made in _checks(archive, unpacked)):
                return None
            recipe = _recipe(data, archive, target, unpacked)
            return recipe if recipe and _comes_back(data, archive, target, recipe) else None
        except (FormatError, NotSplittable):
            return None

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the archive with the members compressed that the recipe says."""
        try:
            archive = read_archive(data)
        except NotSplittable as error:
            raise FormatError(str(error)) from error
        if len(recipe) != 2 * len(archive.members):
            raise FormatError(f"an archive of {len(archive.members)} members does not fit its recipe")

        def packed(member: ArchiveMember, at: int) -> Sizes:
            if not any(chosen := recipe[2 * member.number :][:2]):
                return _copied(data, member, target, at)
            checksum, size = 0, 0
            for made in deflate(member.part(data), read_parameters(chosen)):
                target.write(at + size, made)
                size += len(made)
            for start in range(member.start, member.end, _PIECE):
                checksum = zlib.crc32(data[start : min(start + _PIECE, member.end)], checksum)
            return Sizes(DEFLATED, checksum, size)

        try:
            _rewrite(data, archive, target, packed)
        except NotSplittable as error:
            raise FormatError(str(error)) from error


_PIECE = 1 << 18
CONTAINER = ZipContainer()


class _Writable(Protocol):
    def write(self, offset: int, data: Buffer, /) -> None: ...


class _Unpacked(NamedTuple):
    """Where the content of a member was written, its size, and its CRC-32."""

    at: int
    size: int
    crc: int


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


def _copied(data: Content, member: ArchiveMember, target: Target, at: int) -> Sizes:
    for start in range(member.start, member.end, _PIECE):
        target.write(at + start - member.start, data[start : min(start + _PIECE, member.end)])
    return Sizes(member.method, member.crc, member.end - member.start)


def _inflate(data: Content, member: ArchiveMember, target: Target, at: int) -> tuple[int, int]:
    size = checksum = 0
    for piece in inflate(member.part(data), member.size):
        target.write(at + size, piece)
        size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    return size, checksum


def _checks(archive: Archive, unpacked: dict[int, _Unpacked]) -> list[tuple[ArchiveMember, tuple[int, int]]]:
    return [(archive.members[number], (made.size, made.crc)) for number, made in unpacked.items()]


def _recipe(data: Content, archive: Archive, content: Target, unpacked: dict[int, _Unpacked]) -> bytes | None:
    """Return the parameters of each member; None if one cannot be made again."""
    recipe = bytearray(2 * len(archive.members))
    hint: Parameters | None = None
    for number, made in unpacked.items():
        member = archive.members[number]
        hint = find_parameters(member.part(data), Part(content, made.at, made.at + made.size), hint)
        if hint is None:
            return None
        recipe[2 * number : 2 * number + 2] = hint
    return bytes(recipe)


def _comes_back(data: Content, archive: Archive, content: Content, recipe: bytes) -> bool:
    """Return whether packing gives the same headers; that the members come back is known."""
    again = read_archive(content)
    check = _Comparing(data)

    def known(member: ArchiveMember, at: int) -> Sizes:
        before = archive.members[member.number]
        check.equal &= at == before.start
        method = DEFLATED if any(recipe[2 * member.number :][:2]) else before.method
        return Sizes(method, before.crc, before.end - before.start)

    _rewrite(content, again, check, known)
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
