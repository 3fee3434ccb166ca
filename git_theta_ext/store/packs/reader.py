"""Read chunks out of pack files, with a bounded number of them open."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.records import NamedTuple
from git_theta_ext.store.packs.format import (
    PREFIX_BYTES,
    PackHeader,
    header_length,
    keep_header,
    read_header,
    write_header,
)
from git_theta_ext.util.system import open_file, pread

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import Entry

_MOST_OPEN = 128

_MOST_HEADS = 1 << 12
"""Bytes that most heads of packs fit into. They are read with one call."""


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return bytes of a file, fewer only at its end; a single read may return fewer."""
    data = pread(descriptor, size, offset)
    while len(data) < size and (more := pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


class StoredBlob(NamedTuple):
    """A blob in a pack file.

    Attributes:
        path: Path of the pack.
        entry: Its entry in the pack's header.
    """

    path: Path
    entry: Entry


def blob_digest(entry: Entry, data: memoryview) -> Digest | None:
    """Return the digest of the bytes that an entry was decoded to; None for a bundle that has other tensors."""
    if entry.bundle is None:
        return tensor_digest(entry.spec, data)
    from git_theta_ext.coding.tensor_digests import wrong_member  # filters without bundles start without it

    return entry.digest if wrong_member(entry.bundle, data) is None else None


def wrong_tensor(pack: str, digest: Digest) -> CorruptError:
    """Return the error for an entry of a pack that decodes to other bytes than its digest names."""
    return CorruptError(
        f"pack {pack}: the stored tensor does not match its digest {digest}",
        hint="git theta fsck --full --repair",
        pack=pack,
    )


class PackReader:
    """Reads packs, and keeps the last ones open. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, _Pack] = OrderedDict()
        self._written: OrderedDict[Path, tuple[Entry, ...]] = OrderedDict()
        self._latest: tuple[Path, _Pack] | None = None

    def header(self, path: Path) -> PackHeader:
        """Return the header of a pack.

        Raises:
            MissingError: The pack is gone.
            CorruptError: The pack is damaged.
        """
        return self._pack(path).header

    def chunk(self, path: Path, entry: Entry, number: int) -> memoryview:
        """Return the stored bytes of a chunk.

        Raises:
            MissingError: The pack is gone.
            CorruptError: The pack is truncated.
        """
        pack = self._pack(path)
        size = entry.chunks[number]
        offset = entry.offset + sum(entry.chunks[:number]) if number else entry.offset
        data = read_at(pack.descriptor, size, offset)
        if len(data) != size:
            raise CorruptError(f"pack {path.name} is truncated", hint="git theta fsck", pack=path.name)
        return memoryview(data)

    def forget(self, path: Path) -> None:
        """Close a pack whose file was replaced, so that the next read opens it again."""
        with self._lock:
            self._open.pop(path, None)
            self._written.pop(path, None)
            self._latest = None

    def written(self, path: Path, entries: tuple[Entry, ...]) -> None:
        """Take over the entries of a new pack: reading its header would take as long as looking up its tensors.

        Args:
            path: Its path. An earlier file of that path is closed.
            entries: What was written to it. They are used if the head that is in the file is theirs.
        """
        self.forget(path)
        with self._lock:
            self._written[path] = entries
            if len(self._written) > _MOST_OPEN:
                self._written.popitem(last=False)

    def close(self) -> None:
        """Close all packs."""
        with self._lock:
            self._open.clear()
            self._written.clear()
            self._latest = None

    def _pack(self, path: Path) -> _Pack:
        latest = self._latest
        if latest is not None and latest[0] is path:  # as for most chunks: neighbours are read one after another
            return latest[1]
        with self._lock:
            pack = self._open.get(path)
            if pack is None:
                pack = self._open[path] = _Pack(path, self._written.pop(path, None))
                # A thread that still reads from the removed pack keeps it open until it is done.
                if len(self._open) > _MOST_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(path)
            self._latest = path, pack
            return pack


class _Pack:
    """An open pack, closed with the last reference to it.

    Args:
        path: Its path.
        entries: Those that it should have, if they are known.
    """

    def __init__(self, path: Path, entries: tuple[Entry, ...] | None) -> None:
        self.descriptor = -1
        try:
            self.descriptor = open_file(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise MissingError(
                f"pack {path.name} is gone from the store", hint="git theta checkout", pack=path.name
            ) from error
        self._entries = entries

    @cached_property
    def header(self) -> PackHeader:
        """The header, which readers of chunks do not need."""
        head = read_at(self.descriptor, _MOST_HEADS, 0)
        size = header_length(head)
        head = head[:size] if size <= _MOST_HEADS else read_at(self.descriptor, size, 0)
        if self._entries is not None and head == write_header(self._entries):
            header = PackHeader(self._entries, len(head))
            keep_header(head, header)
            return header
        return read_header(head)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def read_head_of(path: Path) -> bytes:
    """Read the head of a pack file, which is also its index entry on a remote.

    Raises:
        CorruptError: The file is not a pack.
        FileNotFoundError: The file is gone.
    """
    with path.open("rb") as file:
        prefix = file.read(PREFIX_BYTES)
        return prefix + file.read(header_length(prefix) - len(prefix))


def read_pack_header(path: Path) -> PackHeader:
    """Read the header of a pack file.

    Raises:
        CorruptError: The file is not a pack, or its header is damaged.
        FileNotFoundError: The file is gone.
    """
    return read_header(read_head_of(path))
