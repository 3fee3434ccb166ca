"""Fetch some entries of a remote's pack, as a pack of this store. An interrupted download is resumed.

The new pack has another name than that of the remote: no remote has it. Like every fetched pack, it counts only after
its entries were decoded.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import dropwhile, pairwise, takewhile
from typing import IO, TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces.remotes import RangeRemote
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.packs.format import write_header
from git_theta_ext.transfer.incoming import locked_part
from git_theta_ext.transfer.portions import pieces
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import reporting_os_errors, sha256_of
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.portions import Range
    from git_theta_ext.transfer.remote_index import OpenedRemote

_PIECE = 1 << 22
"""Bytes that are requested, and so are in memory, at a time."""

_AT_ONCE = 2


def serves_ranges(remote: OpenedRemote) -> bool:
    """Return whether a remote can send a range without sending the whole object, as far as it knows by now."""
    return not isinstance(remote.plugin, RangeRemote) or remote.plugin.ranged


def bring_ranges(
    store: Store, name: str, ranges: Sequence[Range], remotes: Iterable[OpenedRemote]
) -> tuple[str | None, list[ThetaError]]:
    """Fetch ranges of a pack from the first remote that provides them.

    Args:
        store: The store that the new pack is added to.
        name: Name of the pack on the remotes.
        ranges: The ranges of its entries. No more bytes are accepted.
        remotes: The remotes that have the pack.

    Returns:
        The name of the new pack, which is not verified yet, and the errors of remotes. It is None if all failed, or if
        none of them serves ranges.

    Raises:
        StoreError: The store cannot be written.
    """
    extract = Extract(name, ranges)
    failures: list[ThetaError] = []
    with reporting_os_errors(store.root), locked_part(store.root / "incoming", extract.key, store.warn) as path:
        for remote in filter(serves_ranges, remotes):
            try:
                if not extract.write(path, remote):
                    path.unlink()
                    continue
                new = sha256_of(path)
                store.adopt(new, path)
            except (CorruptError, MissingError, RemoteError) as error:
                failures.append(error)
                if isinstance(error, CorruptError):
                    path.unlink(missing_ok=True)
            else:
                path.unlink(missing_ok=True)  # renaming does nothing if both paths are links to the same file
                return new, failures
    return None, failures


class Extract:
    """A new pack of some entries of another pack, which is written from its beginning to its end.

    Args:
        name: Name of the pack on the remotes.
        ranges: The ranges of its entries.

    Attributes:
        key: Names what is written, for files.
    """

    def __init__(self, name: str, ranges: Sequence[Range]) -> None:
        self._name = name
        self._ranges = ranges
        self._entries = [entry for one in ranges for entry in one.entries]
        self._head = write_header(self._entries)
        self.key = f"{name}.{sha256(self._head).hexdigest()[:16]}"
        self._moved: dict[int, int] = {}  # new offsets of chunks by old ones
        at = len(self._head)
        for entry in self._entries:
            if entry.stored:
                self._moved[entry.offset] = at
            at += entry.stored

    def write(self, path: Path, remote: OpenedRemote) -> bool:
        """Write the pack, after what an interrupted download wrote of it.

        Returns:
            False if the remote turns out to send whole objects.

        Raises:
            CorruptError: The remote sends another number of bytes.
            ThetaError: The remote does not have the pack, or cannot be reached.
        """
        key = pack_key(self._name)

        def read(piece: tuple[Range, int, int]) -> bytes:
            _, start, end = piece
            data = retried(lambda: remote.plugin.get(key, start, end)) if serves_ranges(remote) else b""
            if len(data) != end - start and serves_ranges(remote):
                raise CorruptError(
                    f"{remote.url}: pack {self._name} has {len(data)} bytes from {start} to {end}",
                    hint="run git theta fsck on the remote",
                )
            return data

        with path.open("ab"), path.open("r+b") as file, ThreadPoolExecutor(_AT_ONCE) as executor:
            begun = self._begun(file)
            # Not in a list: a header may claim to have any number of bytes.
            done = sum(end - start for _, start, end in takewhile(self._before(begun), pieces(self._ranges, _PIECE)))
            come = ordered_map(executor, read, self._after(begun), _AT_ONCE)
            for (one, start, _), data in zip(self._after(begun), come, strict=True):
                if not serves_ranges(remote):
                    return False
                self._place(file, one, start, data)
                done += len(data)
                remote.meter(key, done)
        return True

    def _begun(self, file: IO[bytes]) -> int:
        """Return the number of first bytes that a file has of the new pack."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if self._in_order() and file.read(len(self._head)) == self._head:
            return size
        file.truncate(0)
        file.seek(0)
        file.write(self._head)
        return len(self._head)

    def _in_order(self) -> bool:
        """Return whether no two entries have a byte in common, as those of an honest pack."""
        return all(one.offset + one.stored <= after.offset for one, after in pairwise(self._entries))

    def _before(self, begun: int) -> Callable[[tuple[Range, int, int]], bool]:
        """Return a function that tells whether the first bytes of the new pack have all that it needs of a piece."""
        return lambda piece: all(new + high - low <= begun for new, low, high in self._parts(*piece))

    def _after(self, begun: int) -> Iterator[tuple[Range, int, int]]:
        """Yield the pieces that are not written."""
        return dropwhile(self._before(begun), pieces(self._ranges, _PIECE))

    def _parts(self, one: Range, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the place in the new pack, and the first and last offset, of the parts of entries in a piece."""
        for entry in one.entries:
            low, high = max(start, entry.offset), min(end, entry.offset + entry.stored)
            if low < high:
                yield self._moved[entry.offset] + low - entry.offset, low, high

    def _place(self, file: IO[bytes], one: Range, start: int, data: bytes) -> None:
        view = memoryview(data)
        for new, low, high in self._parts(one, start, start + len(data)):
            file.seek(new)
            file.write(view[low - start : high - start])
