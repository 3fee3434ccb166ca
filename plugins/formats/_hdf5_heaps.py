"""The B-trees of version 2 and the fractal heaps of an HDF5 file, in which large groups have their links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._hdf5_file import File

_TREE_PREFIX = 10
"""Bytes of a node besides records and pointers: signature, version, type and checksum."""
_MOST_DEPTH = 32
_CHECKSUMS = 2
_KIND = 0x30


def records(file: File, tree: int, kinds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the place of each record of a B-tree of version 2, and the size in bytes of a record.

    Raises:
        FormatError: The tree is damaged, or has another kind of records.
    """
    file.expect(file.visit(tree), b"BTHD")
    if file.number(tree + 5, 1) not in kinds:
        raise FormatError(f"the B-tree at byte {tree} is of another kind")
    node, size, depth = file.number(tree + 6, 4), file.number(tree + 10, 2), file.number(tree + 12, 2)
    root = file.address(tree + 16)
    if root is None:
        return
    if not size or node < _TREE_PREFIX + size or depth > _MOST_DEPTH:
        raise FormatError(f"the B-tree at byte {tree} has nodes of {node} bytes and records of {size}")
    most = total = (node - _TREE_PREFIX) // size
    width = _width(most)
    pointers = [0]  # the size of a pointer to a child, by level
    totals = 0
    for _ in range(depth):
        pointer = file.offset_size + width + totals
        most = (node - _TREE_PREFIX - pointer) // (size + pointer)
        if most < 1:
            raise FormatError(f"the B-tree at byte {tree} has nodes that are too small")
        pointers.append(pointer)
        total = (most + 1) * total + most
        totals = _width(total)
    for at in _node(file, root, file.number(tree + 16 + file.offset_size, 2), (size, width), pointers):
        yield at, size


def _node(file: File, at: int, count: int, sizes: tuple[int, int], pointers: Sequence[int]) -> Iterator[int]:
    size, width = sizes
    pointer = pointers[-1]
    file.expect(file.visit(at), b"BTIN" if pointer else b"BTLF")
    first = at + 6
    for number in range(count):
        file.count()
        yield first + number * size
    for number in range(count + 1) if pointer else ():
        place = first + count * size + number * pointer
        child = file.address(place)
        if child is None:
            raise FormatError(f"the B-tree node at byte {at} has a child that is nowhere")
        yield from _node(file, child, file.number(place + file.offset_size, width), sizes, pointers[:-1])


def _width(limit: int) -> int:
    """Return the number of bytes in which numbers up to a limit are written."""
    return (limit.bit_length() - 1) // 8 + 1


@dataclass(frozen=True)
class Heap:
    """A fractal heap.

    Attributes:
        file: The file.
        width: Number of blocks in a row of its table.
        block: Size in bytes of a block in the first rows.
        largest: Size in bytes of the largest direct block.
        offset_width: Number of bytes of an offset.
        length_width: Number of bytes of the length of an object.
        root: Address of its first block.
        rows: Number of rows in the first block; zero if it is a direct one.
    """

    file: File
    width: int
    block: int
    largest: int
    offset_width: int
    length_width: int
    root: int
    rows: int

    @classmethod
    def at(cls, file: File, address: int) -> Heap:
        """Read the header of a heap.

        Raises:
            FormatError: It is damaged.
            NotSplittable: It is compressed.
        """
        file.expect(file.visit(address), b"FRHP")
        if file.number(address + 7, 2):
            raise NotSplittable("a group has its links in a heap that is compressed")
        offset, length = file.offset_size, file.length_size
        managed = file.number(address + 10, 4)
        table = address + 14 + length + offset + length + offset + 8 * length
        width, block, largest = file.number(table, 2), file.length(table + 2), file.length(table + 2 + length)
        bits = file.number(table + 2 + 2 * length, 2)
        root = file.address(table + 6 + 2 * length)
        if not width or not _power(block) or not _power(largest) or largest < block or root is None:
            raise FormatError(f"the heap at byte {address} has blocks of {block} to {largest} bytes")
        lengths = min((largest.bit_length() + 6) // 8, _width(max(1, managed)))
        return cls(
            file, width, block, largest, (bits + 7) // 8, lengths, root, file.number(table + 6 + 2 * length + offset, 2)
        )

    def place(self, ident: int) -> int:
        """Return where the object is whose id is at an offset.

        Raises:
            FormatError: It is nowhere.
            NotSplittable: It is not in a block.
        """
        if self.file.number(ident, 1) & _KIND:
            raise NotSplittable("a group has a link in a heap that is too long for its blocks")
        offset = self.file.number(ident + 1, self.offset_width)
        length = self.file.number(ident + 1 + self.offset_width, self.length_width)
        address, start, size = self.root, 0, self.block
        rows = self.rows
        while rows:
            row, column, begin, size = self._row(offset - start)
            if row >= rows:
                raise FormatError(f"an object at byte {offset} of a heap is in no block")
            entry = address + 5 + self.file.offset_size + self.offset_width
            self.file.expect(address, b"FHIB")
            found = self.file.address(entry + (row * self.width + column) * self.file.offset_size)
            if found is None:
                raise FormatError(f"an object at byte {offset} of a heap is in no block")
            address, start = found, start + begin
            rows = 0 if size <= self.largest else (size // (self.block * self.width)).bit_length()
        self.file.expect(address, b"FHDB")
        if not start <= offset <= offset + length <= start + (size if self.rows else self.largest):
            raise FormatError(f"an object at byte {offset} of a heap is in no block")
        return address + offset - start

    def _row(self, offset: int) -> tuple[int, int, int, int]:
        """Return the row and the column of the block with an offset in its table, where it begins, and its size."""
        first = self.block * self.width
        row = (offset // first).bit_length()
        size = self.block << max(0, row - 1)
        begin = 0 if not row else first << (row - 1)
        column = (offset - begin) // size
        return row, column, begin + column * size, size


def _power(number: int) -> bool:
    return number > 0 and not number & (number - 1)
