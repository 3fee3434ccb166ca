"""The groups of an HDF5 file, and the indexes of chunked datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError

from ._hdf5_file import LINK, LINK_INFO, SYMBOL_TABLE
from ._hdf5_heaps import Heap, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._hdf5_file import File, Message

_LONGEST_NAME = 1 << 12
_GROUP_NODE, _CHUNK_NODE = 0, 1
_BY_NAME = 5
"""The kind of a B-tree of version 2 whose records are links by name."""
_TYPED, _ORDERED, _ENCODED = 8, 4, 16
_SOFT_LINK = 2


def links(file: File, messages: Sequence[Message]) -> Iterator[tuple[str, int]]:
    """Yield the name and the address of each object of a group; soft and external links are left out.

    Raises:
        FormatError: A table or a name is damaged.
        NotSplittable: The links are in a heap that is compressed, or are too long.
    """
    for message in messages:
        if message.kind == SYMBOL_TABLE:
            tree, heap = (file.address(message.start + n * file.offset_size) for n in (0, 1))
            if tree is not None and heap is not None:
                yield from _symbols(file, tree, heap)
        elif message.kind == LINK:
            yield from _link(file, message.start)
        elif message.kind == LINK_INFO:
            at = message.start + 2 + (8 if file.number(message.start + 1, 1) & 1 else 0)
            heap, tree = (file.address(at + n * file.offset_size) for n in (0, 1))
            if heap is not None and tree is not None:
                yield from _dense(file, heap, tree)


def _dense(file: File, heap: int, tree: int) -> Iterator[tuple[str, int]]:
    """Yield the links in a fractal heap, which a B-tree lists by name."""
    found = Heap.at(file, heap)
    for at, _ in records(file, tree, (_BY_NAME,)):
        yield from _link(file, found.place(at + 4))


def _link(file: File, start: int) -> Iterator[tuple[str, int]]:
    """Yield the name and the address of the object of a hard link, given where its message begins."""
    at = start + 2
    flags = file.number(start + 1, 1)
    kind = file.number(at, 1) if flags & _TYPED else 0
    at += (flags & _TYPED > 0) + (8 if flags & _ORDERED else 0) + (flags & _ENCODED > 0)
    width = 1 << (flags & 3)
    size = file.number(at, width)
    at += width
    if not kind and (address := file.address(at + size)) is not None:
        if size > _LONGEST_NAME:
            raise FormatError(f"a name of {size} bytes at byte {at}")
        yield str(file.read(at, at + size), "utf-8", "surrogateescape"), address


def _symbols(file: File, tree: int, heap: int) -> Iterator[tuple[str, int]]:
    """Yield the links of a symbol table, whose names are in a local heap."""
    file.expect(heap, b"HEAP")
    size = file.length(heap + 8)
    names = file.address(heap + 8 + 2 * file.length_size)
    if names is None:
        return
    entry = 2 * file.offset_size + 24
    for _, table in _leaves(file, tree, _GROUP_NODE, file.length_size):
        file.expect(file.visit(table), b"SNOD")
        for number in range(file.number(table + 6, 2)):
            at = table + 8 + number * entry
            offset, address = file.number(at, file.offset_size), file.address(at + file.offset_size)
            if address is not None and file.number(at + 2 * file.offset_size, 4) != _SOFT_LINK:
                yield _name(file, names, offset, size), address


def _name(file: File, heap: int, offset: int, size: int) -> str:
    if offset >= size:
        raise FormatError(f"a name at byte {offset} of a heap of {size} bytes")
    most = bytes(file.read(heap + offset, min(heap + size, heap + offset + _LONGEST_NAME, file.data.nbytes)))
    name, end, _ = most.partition(b"\0")
    if not end:
        raise FormatError(f"the name at byte {heap + offset} does not end")
    return name.decode("utf-8", "surrogateescape")


def chunks(file: File, tree: int, rank: int) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield the offset in elements, the address and the size in bytes of each chunk in a B-tree of version 1."""
    for key, address in _leaves(file, tree, _CHUNK_NODE, 8 + 8 * (rank + 1)):
        yield tuple(file.number(key + 8 + 8 * n, 8) for n in range(rank)), address, file.number(key, 4)


def _leaves(file: File, tree: int, kind: int, key_size: int, level: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the place of the key and the address of each child of the leaves of a B-tree of version 1."""
    file.expect(file.visit(tree), b"TREE")
    if file.number(tree + 4, 1) != kind:
        raise FormatError(f"the B-tree at byte {tree} is of another kind")
    found = file.number(tree + 5, 1)
    if level is not None and found != level:
        raise FormatError(f"the B-tree at byte {tree} has another level than its parent says")
    at = tree + 8 + 2 * file.offset_size
    for _ in range(file.number(tree + 6, 2)):
        file.count()
        child = file.address(at + key_size)
        if child is None:
            raise FormatError(f"the B-tree at byte {tree} has a child that is nowhere")
        if found:
            yield from _leaves(file, child, kind, key_size, found - 1)
        else:
            yield at, child
        at += key_size + file.offset_size
