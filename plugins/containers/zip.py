"""Zip archives with compressed members: `.npz` of `np.savez_compressed`, `.mar`, `.keras`, `.zip`.

The content is the same archive with stored members, which formats read as any other. The CRC-32 of a member is zero in
it, so that it depends on no values, and is computed when the archive is packed. The recipe has two bytes for each
member in the order of the file: the parameters of its compressor, 0 and 1 if it was stored, and zeros if it is left as
it is, because it is empty or compressed in another way.
"""

from __future__ import annotations

import zlib
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple, Protocol

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

from ..formats._part import Part  # noqa: TID252 - the package has another name where it is installed
from ._deflate import Parameters, deflate, find_parameters, inflate, most_bytes, read_parameters
from ._zip_fields import DEFLATED, STORED, Sizes, needs_packing, read_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Content, Target

    from ._zip_fields import Archive, ArchiveMember

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
            contents: dict[int, _Written] = {}

            def unpacked(member: ArchiveMember, at: int) -> Sizes:
                if not member.size or member.method not in (STORED, DEFLATED):
                    return _copied(data, member, target, at)
                pieces = _pieces(member.part(data))
                contents[member.number] = _write(
                    inflate(member.part(data), member.size) if member.method == DEFLATED else pieces, target, at
                )
                return Sizes(STORED, 0, member.size)

            _rewrite(data, archive, target, unpacked)
            for number, made in contents.items():
                if (made.size, made.crc) != (archive.members[number].size, archive.members[number].crc):
                    return None
            recipe = _recipe(data, archive, target, contents)
            return recipe if recipe and _comes_back(data, archive, target) else None
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
            chosen = recipe[2 * member.number :][:2]
            if not any(chosen):
                return _copied(data, member, target, at)
            content = member.part(data)
            checksum = reduce(lambda value, piece: zlib.crc32(piece, value), _pieces(content), 0)
            if chosen == _CHECKED:
                return _copied(data, member, target, at)._replace(crc=checksum)
            return Sizes(DEFLATED, checksum, _write(deflate(content, read_parameters(chosen)), target, at).size)

        try:
            _rewrite(data, archive, target, packed)
        except NotSplittable as error:
            raise FormatError(str(error)) from error


_PIECE = 1 << 18
CONTAINER = ZipContainer()


class _Writable(Protocol):
    def write(self, offset: int, data: Buffer, /) -> None: ...


class _Written(NamedTuple):
    """Where bytes were written, how many, and their CRC-32."""

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


def _pieces(content: Content) -> Iterator[memoryview]:
    for start in range(0, content.nbytes, _PIECE):
        yield content[start : start + _PIECE]


def _write(pieces: Iterable[bytes | memoryview], target: Target, at: int) -> _Written:
    size = checksum = 0
    for piece in pieces:
        target.write(at + size, piece)
        size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    return _Written(at, size, checksum)


def _copied(data: Content, member: ArchiveMember, target: Target, at: int) -> Sizes:
    return Sizes(member.method, member.crc, _write(_pieces(member.part(data)), target, at).size)


def _recipe(data: Content, archive: Archive, target: Target, contents: Mapping[int, _Written]) -> bytes | None:
    """Return the recipe; None if a member cannot be made again."""
    recipe = bytearray(2 * len(archive.members))
    hint: Parameters | None = None
    for number, made in contents.items():
        member = archive.members[number]
        chosen = _CHECKED
        if member.method == DEFLATED:
            hint = find_parameters(member.part(data), Part(target, made.at, made.at + made.size), hint)
            if hint is None:
                return None
            chosen = bytes(hint)
        recipe[2 * number : 2 * number + 2] = chosen
    return bytes(recipe)


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
