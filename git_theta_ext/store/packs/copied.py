"""Write packs of entries that another pack has, as they are stored there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.packs.format import write_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_theta_ext.store.packs.format import Entry


def copy_entries(source: Path, entries: Sequence[Entry], target: Path) -> tuple[Entry, ...]:
    """Write a pack of some entries of another one, and return them as they are there."""
    head = len(write_header(entries))
    placed: list[Entry] = []
    with source.open("rb") as old, target.open("xb") as file:
        file.seek(head)
        for entry in entries:
            placed.append(entry._replace(offset=file.tell()))
            old.seek(entry.offset)
            for size in entry.chunks:
                file.write(old.read(size))
        file.seek(0)
        file.write(write_header(placed))
    return tuple(placed)
