"""Combine small packs before a push, so that many commits do not become as many requests."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import suppress
from shutil import copyfileobj
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError
from git_theta_ext.model.dtypes import SKELETON
from git_theta_ext.store.packs.finishing import finish_packs
from git_theta_ext.store.packs.format import write_header
from git_theta_ext.store.packs.writer import ENTRY_BYTES, SMALLEST_LIMIT, divided
from git_theta_ext.store.temporary import temporary
from git_theta_ext.util.files import reporting_os_errors, sync_directories

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from git_theta_ext.store.store import Store

_FEW = 4
"""Number of packs that are not worth combining."""

_BLOCK = 1 << 20


def is_small(nbytes: int) -> bool:
    """Return whether a pack of so many bytes may be combined with others."""
    return nbytes < SMALLEST_LIMIT // 2


def combined(store: Store, names: Iterable[str]) -> set[str]:
    """Replace small packs by shared ones with the same entries, if there are more than a few.

    The bytes of entries are copied, not decoded: the caller has verified all entries, and a pack with the SHA-256 that
    it is named after has the bytes that were verified. A pack that is damaged, gone, or not in this store itself stays
    as it is, as do all of them if the store cannot be written.

    Args:
        store: The store. The caller holds ``store.locks.gc_lock``.
        names: Names of packs whose entries are verified.

    Returns:
        The names of the packs that have the entries now.
    """
    wanted = set(names)
    loose = store.index.loose(str(store.root))
    alike: dict[tuple[bool, bool], list[tuple[str, int]]] = defaultdict(list)
    for name in filter(wanted.__contains__, store.index.pack_names(str(store.root))):
        with suppress(MissingError, CorruptError, FileNotFoundError):
            header = store.reader.header(store.pack_path(name))
            if is_small(header.pack_bytes):
                # A skeleton outlives the tensors that it was first stored with.
                skeletons = all(entry.spec.dtype is SKELETON for entry in header.entries)
                size = header.pack_bytes + ENTRY_BYTES * len(header.entries)
                alike[name in loose, skeletons].append((name, size))
    for (is_loose, _), items in alike.items():
        for group in divided(items) if len(items) > _FEW else ():
            if len(group) > 1:
                with suppress(StoreError, MissingError, CorruptError):
                    wanted.add(_join(store, group, loose=is_loose))
                    wanted.difference_update(group)
    return wanted


def _join(store: Store, names: Sequence[str], *, loose: bool) -> str:
    """Write a pack of the entries of some packs, which it replaces, and return its name.

    Raises:
        CorruptError: A pack is damaged.
        MissingError: A pack is gone.
        StoreError: The store cannot be written.
    """
    headers = [store.reader.header(store.pack_path(name)) for name in names]
    entries = tuple(entry for header in headers for entry in header.entries)
    sources = [(store.pack_path(name), header.nbytes) for name, header in zip(names, headers, strict=True)]
    head = write_header(entries)
    path = temporary(store.root)
    with reporting_os_errors(store.root):
        try:
            with path.open("xb") as file:
                file.write(head)
                _copy_content(sources, file)
            _check(path, head, sources)
            ((made, _, directories),) = finish_packs(store.root, [(path, entries, None)])
        finally:
            path.unlink(missing_ok=True)
        sync_directories(directories)
    store.index.add_pack(str(store.root), made, entries, loose=loose, verified=True)
    store.drop(names)
    return made


def _copy_content(sources: Iterable[tuple[Path, int]], file: BinaryIO) -> None:
    """Append what follows the heads of some packs, which are given with the sizes of these, to a file."""
    for source, skipped in sources:
        with source.open("rb") as pack:
            pack.seek(skipped)
            copyfileobj(pack, file, _BLOCK)


def _check(path: Path, head: bytes, sources: Iterable[tuple[Path, int]]) -> None:
    """Compare a new pack, as it is read from the disk, with what it was copied from.

    The head of a pack and its content in the new file have the SHA-256 that the pack is named after. So nothing else
    has to be hashed to prove that the packs were intact, and that the disk has what was written.

    Raises:
        CorruptError: They differ.
    """
    with path.open("rb") as file:
        same = file.read(len(head)) == head
        for source, skipped in sources:
            with source.open("rb") as pack:
                hasher = hashlib.sha256(pack.read(skipped))
            left = source.stat().st_size - skipped
            while left and (block := file.read(min(left, _BLOCK))):
                hasher.update(block)
                left -= len(block)
            if not same or hasher.hexdigest() != source.name:
                message = (
                    f"pack {source.name} is damaged, or the disk returns other bytes than were written to a copy of it"
                )
                raise CorruptError(message, hint="git theta fsck --full", pack=source.name)
