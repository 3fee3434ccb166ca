"""Fetch some entries of a remote's pack, as a pack of this store.

The new pack has another name than that of the remote: no remote has it. Like every fetched pack, it counts only after
its entries were decoded.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces.remotes import RangeRemote
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.packs.format import write_header
from git_theta_ext.store.temporary import temporary
from git_theta_ext.transfer.portions import pieces
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import reporting_os_errors, sha256_of
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.store.packs.format import Entry
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
        StoreError: The store cannot be written. No partly written file is left.
    """
    failures: list[ThetaError] = []
    for remote in filter(serves_ranges, remotes):
        path = temporary(store.root)
        try:
            with reporting_os_errors(store.root):
                if not _write(path, name, ranges, remote):
                    continue
                new = sha256_of(path)
                store.adopt(new, path)
                return new, failures
        except (CorruptError, MissingError, RemoteError) as error:
            failures.append(error)
        finally:
            path.unlink(missing_ok=True)
    return None, failures


def _write(path: Path, name: str, ranges: Sequence[Range], remote: OpenedRemote) -> bool:
    """Write a pack of the entries of ranges. Return False if the remote turns out to send whole objects."""
    entries = [entry for one in ranges for entry in one.entries]
    head = write_header(entries)
    at = len(head)
    moved: dict[int, int] = {}  # new offsets of chunks by old ones
    for entry in entries:
        if entry.stored:
            moved[entry.offset] = at
        at += entry.stored

    def read(piece: tuple[Range, int, int]) -> bytes:
        _, start, end = piece
        data = retried(lambda: remote.plugin.get(pack_key(name), start, end)) if serves_ranges(remote) else b""
        if len(data) != end - start and serves_ranges(remote):
            raise CorruptError(
                f"{remote.url}: pack {name} has {len(data)} bytes from {start} to {end}",
                hint="run git theta fsck on the remote",
            )
        return data

    with path.open("xb") as file, ThreadPoolExecutor(_AT_ONCE) as executor:
        file.write(head)
        # Not in a list: a header may claim to have any number of bytes.
        done = 0
        come = ordered_map(executor, read, pieces(ranges, _PIECE), _AT_ONCE)
        for (one, start, _), data in zip(pieces(ranges, _PIECE), come, strict=True):
            if not serves_ranges(remote):
                return False
            _place(file, one.entries, moved, start, data)
            done += len(data)
            remote.meter(pack_key(name), done)
    return True


def _place(file: IO[bytes], entries: Iterable[Entry], moved: Mapping[int, int], start: int, data: bytes) -> None:
    """Write the parts of entries that are in a piece of the remote's pack, at their places in the new pack."""
    view = memoryview(data)
    for entry in entries:
        low, high = max(start, entry.offset), min(start + len(data), entry.offset + entry.stored)
        if low < high:
            file.seek(moved[entry.offset] + low - entry.offset)
            file.write(view[low - start : high - start])
