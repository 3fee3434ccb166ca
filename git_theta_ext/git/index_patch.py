"""Record in git's index that the files which git theta wrote are unchanged.

The index has each file's stat data and object id, and git reads a file again if its stat data differs. Writing a
checkpoint over its manifest changes only the stat data. So these words are replaced in place, and the rest of the index
is kept, extensions included. Git itself can do the same, but more slowly: ``refresh`` makes it do so.

Source: ``gitformat-index(5)``, versions 2 to 4, repositories of either object format, whole, sparse and split indexes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from git_theta_ext.git.entries import index_entry, update_index
from git_theta_ext.records import dataclass
from git_theta_ext.util.system import open_file, set_mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.git.process import RunGit

ObjectFormat = Literal["sha1", "sha256"]

_OID_BYTES: dict[str, int] = {"sha1": 20, "sha256": 32}
_HEADER = struct.Struct(">4sII")
_TIMES = struct.Struct(">6I")
_OWNER = struct.Struct(">3I")
_OWNER_AT = _TIMES.size + 4
_OID_AT = _OWNER_AT + _OWNER.size
_WORD = 0xFFFFFFFF
_NANO = 10**9
_NAME_MASK = 0xFFF
_STAGE_MASK = 0x3000
_EXTENDED = 0x4000
_COMPRESSED = 4
_VERSIONS = (2, 3, _COMPRESSED)
LOCK_SECONDS = 1.0
"""How long commands wait for another process that holds the index lock, if giving up costs little."""

_LOCK_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class StatWords:
    """A file's stat data as nine 32-bit words: seconds, nanoseconds, numbers, and the size modulo 2^32."""

    ctime: int
    ctime_ns: int
    mtime: int
    mtime_ns: int
    dev: int
    ino: int
    uid: int
    gid: int
    size: int

    @classmethod
    def of(cls, stat: os.stat_result) -> StatWords:
        """Truncate the result of ``os.lstat`` to words, as git does."""
        ctime, ctime_ns = divmod(stat.st_ctime_ns, _NANO)
        mtime, mtime_ns = divmod(stat.st_mtime_ns, _NANO)
        rest = (stat.st_dev, stat.st_ino, stat.st_uid, stat.st_gid, stat.st_size)
        return cls(ctime & _WORD, ctime_ns, mtime & _WORD, mtime_ns, *(number & _WORD for number in rest))

    def times(self) -> bytes:
        """Return the words that precede the mode in an index entry."""
        return _TIMES.pack(self.ctime, self.ctime_ns, self.mtime, self.mtime_ns, self.dev, self.ino)

    def owner(self) -> bytes:
        """Return the words that follow the mode in an index entry."""
        return _OWNER.pack(self.uid, self.gid, self.size)


@dataclass(frozen=True, slots=True)
class Update:
    """The new stat data of a path.

    Attributes:
        oid: The object that the entry must name, 20 or 32 bytes.
        old: The stat data that the entry must have: that of the file that git wrote, or zeros if git has not seen it.
            None accepts any stat data; the file must be known to have the object's content.
        new: The stat data of the file that replaced it.
    """

    oid: bytes
    old: StatWords | None
    new: StatWords


def patch(index: bytes, updates: Mapping[bytes, Update], oid_bytes: int) -> tuple[bytes, set[bytes]]:
    """Replace stat data in an index.

    An entry is changed only if it is merged (stage 0) and has the object and the old stat data of its update. In a
    split index, an entry that overrides the shared one has no name; its stat data, inode included, identifies it.

    Args:
        index: The index file's bytes.
        updates: Updates by path, relative to the top of the work tree.
        oid_bytes: Size of an object id: 20 for SHA-1 repositories, 32 for SHA-256.

    Returns:
        The new bytes, as many as before, and the paths that were patched: none if the index is malformed, damaged or of
        an unknown version.
    """
    if not updates or not _sound(index, oid_bytes):
        return index, set()
    nameless = {update.old.times(): path for path, update in updates.items() if update.old and update.old.ino}
    data = bytearray(index)
    patched = set()
    try:
        for start, name, merged in _entries(index, oid_bytes):
            path = name or nameless.get(index[start : start + _TIMES.size], b"")
            update = updates.get(path)
            if update is None or not merged or not _holds(index, start, update):
                continue
            data[start : start + _TIMES.size] = update.new.times()
            data[start + _OWNER_AT : start + _OID_AT] = update.new.owner()
            patched.add(path)
    except (ValueError, IndexError, struct.error):
        return index, set()
    if any(index[-oid_bytes:]):
        data[-oid_bytes:] = _trailer(memoryview(data)[:-oid_bytes], oid_bytes)
    return bytes(data), patched


def patch_file(
    index_path: Path, updates: Mapping[bytes, Update], object_format: ObjectFormat, wait: float = LOCK_SECONDS
) -> set[bytes]:
    """Replace stat data in an index file, under git's own lock.

    The file keeps its mode and its modification time. Git distrusts an entry whose file is as new as the index. A
    newer index would make git trust files that another program changed after git wrote the index. So a populated file
    must be older than the index, or git reads it once more.

    Args:
        index_path: The index file; it need not exist.
        updates: As for ``patch``.
        object_format: The output of ``git rev-parse --show-object-format``.
        wait: Seconds to wait for a process that holds the lock.

    Returns:
        The paths that were patched: none if another process holds the lock for longer, or if the directory cannot be
        written.
    """
    index_path = Path(os.path.realpath(index_path))  # git locks the target of a symbolic link
    lock_path = index_path.with_name(index_path.name + ".lock")
    descriptor = _lock(lock_path, wait)
    if descriptor is None:
        return set()
    patched: set[bytes] = set()
    try:
        with contextlib.suppress(OSError), os.fdopen(descriptor, "wb") as lock:
            changed = _write_patched(index_path, lock, updates, _OID_BYTES[object_format])
            if changed:
                lock_path.rename(index_path)
                patched = changed
    finally:
        if not patched:
            lock_path.unlink(missing_ok=True)
    return patched


def refresh(run: RunGit, updates: Mapping[bytes, Update]) -> set[bytes]:
    """Make git read the files whose entries could not be patched, and record which are unchanged.

    Git considers a file of another size modified without reading it. So the stat data of the entries is cleared first,
    which makes git read the files. Entries that name another object than their update stay as they are.

    Args:
        run: Runs git at the top of the work tree, as ``Repository.run`` does.
        updates: As for ``patch``.

    Returns:
        The paths whose entries name the object of their update.

    Raises:
        RepositoryError: The index is locked or cannot be written.
    """
    if not updates:
        return set()
    entries = {}
    for line in run("ls-files", "--stage", "-z").decode(errors="surrogateescape").split("\0")[:-1]:
        entry = index_entry(line)
        path = os.fsencode(entry.path)
        if not entry.stage and path in updates and updates[path].oid.hex() == entry.oid:
            entries[path] = entry
    if entries:
        update_index(run, entries.values())
        run("update-index", "-q", "--refresh", check=False)
    return set(entries)


def _lock(path: Path, wait: float) -> int | None:
    deadline = time.monotonic() + wait
    while True:
        try:
            return open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            if time.monotonic() >= deadline:
                return None
        except OSError:
            return None
        time.sleep(_LOCK_PAUSE)


def _write_patched(path: Path, lock: BinaryIO, updates: Mapping[bytes, Update], oid_bytes: int) -> set[bytes]:
    with path.open("rb") as index:
        stat = os.fstat(index.fileno())
        data, patched = patch(index.read(), updates, oid_bytes)
    if patched:
        lock.write(data)
        lock.flush()
        set_mode(lock.fileno(), stat.st_mode & 0o7777)
        os.utime(lock.fileno(), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return patched


def _sound(index: bytes, oid_bytes: int) -> bool:
    # A new checksum would make a damaged index look intact, so the old one is checked. It is zero with index.skipHash.
    if len(index) < _HEADER.size + oid_bytes:
        return False
    signature, version, _ = _HEADER.unpack_from(index)
    if signature != b"DIRC" or version not in _VERSIONS:
        return False
    trailer = index[-oid_bytes:]
    return not any(trailer) or trailer == _trailer(memoryview(index)[:-oid_bytes], oid_bytes)


def _trailer(data: memoryview, oid_bytes: int) -> bytes:
    if oid_bytes == _OID_BYTES["sha1"]:
        return hashlib.sha1(data, usedforsecurity=False).digest()
    return hashlib.sha256(data).digest()


def _holds(index: bytes, start: int, update: Update) -> bool:
    oid_at = start + _OID_AT
    if index[oid_at : oid_at + len(update.oid)] != update.oid:
        return False
    return update.old is None or (
        index[start : start + _TIMES.size] == update.old.times()
        and index[start + _OWNER_AT : oid_at] == update.old.owner()
    )


def _entries(index: bytes, oid_bytes: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield the offset of each entry, its name (empty if a split index omits it), and whether it is merged."""
    _, version, count = _HEADER.unpack_from(index)
    flags_at = _OID_AT + oid_bytes
    end = len(index) - oid_bytes
    flags_of = struct.Struct(">H").unpack_from
    start = _HEADER.size
    name = b""
    for _ in range(count):
        (flags,) = flags_of(index, start + flags_at)
        name_at = start + flags_at + (4 if flags & _EXTENDED else 2)
        if version == _COMPRESSED:
            kept, name_at = _varint(index, name_at)
            kept = len(name) - kept
            if kept < 0:
                raise ValueError("an entry removes more bytes than the previous name has")
            stop = index.index(b"\0", name_at, end)
            name = name[:kept] + index[name_at:stop]
            following = stop + 1
        else:
            length = flags & _NAME_MASK
            stop = name_at + length if length < _NAME_MASK else index.index(b"\0", name_at, end)
            name = index[name_at:stop]
            following = start + ((stop - start + 8) & ~7)
        if following > end or index[stop]:
            raise ValueError("an entry extends beyond the entries")
        yield start, name, not flags & _STAGE_MASK
        start = following


def _varint(index: bytes, at: int) -> tuple[int, int]:
    """Read a number as git's ``varint.c`` writes it; return it and the offset after it."""
    byte = index[at]
    value = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = index[at]
        value = ((value + 1) << 7) | (byte & 0x7F)
        if value > len(index):
            raise ValueError("a number is too large")
    return value, at + 1
