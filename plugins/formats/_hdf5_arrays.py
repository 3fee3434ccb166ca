"""The arrays by which newer HDF5 files find the chunks of a dataset: fixed, and extensible along one dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._hdf5_file import File

_PREFIX = 6
"""Bytes before the address of the header: signature, version and client."""
_CHECKSUM = 4
_MOST_BITS = 48


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk in an index: its number, its address, and its size in bytes if it passed a filter, else None."""

    number: int
    address: int
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class _Elements:
    """How the elements of an array are written.

    Attributes:
        file: The file.
        size: Size in bytes of an element.
        filtered: Whether chunks passed a filter.
        page: Number of elements in a page.
    """

    file: File
    size: int
    filtered: bool
    page: int

    def read(self, at: int, first: int, count: int) -> Iterator[Entry]:
        """Yield elements that follow each other, and are of chunks that are there."""
        for number in range(count):
            self.file.count()
            place = at + number * self.size
            address = self.file.address(place)
            if address is not None:
                width = self.size - self.file.offset_size - 4
                nbytes = self.file.number(place + self.file.offset_size, width) if self.filtered else None
                yield Entry(first + number, address, nbytes)

    def pages(self, count: int) -> int:
        """Return the number of pages of some elements."""
        return -(-count // self.page)

    def bitmap(self, count: int) -> int:
        """Return the bytes of the bits that say which pages of some elements there are."""
        return -(-self.pages(count) // 8)

    def block(self, at: int, first: int, count: int, pages: int | None) -> Iterator[Entry]:
        """Yield the elements of a block, given where its elements or its pages begin.

        Args:
            at: The offset.
            first: The number of its first element.
            count: The number of its elements.
            pages: Where the bits are that say which pages there are; None if the block has no pages.
        """
        if pages is None:
            yield from self.read(at, first, count)
            return
        for page in range(self.pages(count)):
            self.file.count()
            if self.file.number(pages + page // 8, 1) & 0x80 >> page % 8:
                begin = page * self.page
                place = at + page * (self.page * self.size + _CHECKSUM)
                yield from self.read(place, first + begin, min(self.page, count - begin))


def fixed(file: File, header: int, most: int) -> Iterator[Entry]:
    """Yield the chunks in a fixed array that has at most so many elements."""
    file.expect(file.visit(header), b"FAHD")
    elements = _elements(file, header, file.number(header + 7, 1))
    count, block = file.length(header + 8), file.address(header + 8 + file.length_size)
    if block is None:
        return
    if count > most:
        raise FormatError(f"the array of chunks at byte {header} has {count} elements instead of {most}")
    file.expect(file.visit(block), b"FADB")
    at = block + _PREFIX + file.offset_size
    if count <= elements.page:
        yield from elements.block(at, 0, count, None)
    else:
        yield from elements.block(at + elements.bitmap(count) + _CHECKSUM, 0, count, at)


def extensible(file: File, header: int) -> Iterator[Entry]:
    """Yield the chunks in an extensible array."""
    file.expect(file.visit(header), b"EAHD")
    most_bits, inside, least, pointers, page_bits = (file.number(header + 7 + n, 1) for n in range(5))
    elements = _elements(file, header, page_bits)
    index = file.address(header + 12 + 6 * file.length_size)
    if index is None:
        return
    if not 0 < least <= 1 << 7 or least & (least - 1) or pointers & (pointers - 1) or not pointers:
        raise FormatError(f"the array of chunks at byte {header} is damaged")
    if most_bits > _MOST_BITS:
        raise NotSplittable(f"an array of chunks may have 2^{most_bits} elements")
    file.expect(file.visit(index), b"EAIB")
    at = index + _PREFIX + file.offset_size
    yield from elements.read(at, 0, inside)
    at += inside * elements.size
    offset_width = (most_bits + 7) // 8
    first, direct = inside, 2 * (pointers - 1)
    levels = 1 + most_bits - (least.bit_length() - 1)
    in_index = 2 * (pointers.bit_length() - 1)
    place = at
    for level in range(levels):
        blocks, size = 1 << level // 2, least << (level + 1) // 2
        paged = size > elements.page
        bits = elements.bitmap(size) if paged else 0
        if level < in_index:
            for _ in range(blocks):
                yield from _block(elements, file.address(place), first, size, offset_width)
                place += file.offset_size
                first += size
            continue
        address = file.address(at + direct * file.offset_size + (level - in_index) * file.offset_size)
        file.count()
        if address is not None:
            file.expect(file.visit(address), b"EASB")
            start = address + _PREFIX + file.offset_size + offset_width
            for number in range(blocks):
                block = file.address(start + blocks * bits + number * file.offset_size)
                file.count()
                pages = start + number * bits if paged else None
                yield from _block(elements, block, first + number * size, size, offset_width, pages)
        first += blocks * size


def _block(  # noqa: PLR0913, PLR0917 - what a block is
    elements: _Elements,
    address: int | None,
    first: int,
    count: int,
    offset_width: int,
    pages: int | None = None,
) -> Iterator[Entry]:
    """Yield the elements of a data block of an extensible array."""
    if address is None:
        return
    file = elements.file
    file.expect(file.visit(address), b"EADB")
    at = address + _PREFIX + file.offset_size + offset_width
    yield from elements.block(at + (0 if pages is None else _CHECKSUM), first, count, pages)


def _elements(file: File, header: int, page_bits: int) -> _Elements:
    client, size = file.number(header + 5, 1), file.number(header + 6, 1)
    width = size - file.offset_size - 4 if client else 0
    if client > 1 or not 0 <= width <= 8 or (not client and size != file.offset_size):  # noqa: PLR2004 - bytes of an integer
        raise FormatError(f"the array of chunks at byte {header} has elements of {size} bytes")
    return _Elements(file, size, bool(client), 1 << min(page_bits, _MOST_BITS))
