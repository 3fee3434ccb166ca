"""From a manifest to the checkpoint's bytes: decoded in threads, verified, and in place all at once."""

from __future__ import annotations

import os
import time
import zlib
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.replace import identity
from git_theta_ext.checkpoint.unfinished import Unfinished
from git_theta_ext.errors import ManifestError
from git_theta_ext.model.layout import Checksum, Layout, Literal, Slice
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.text import shortlist
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_ext.checkpoint.replace import Expected
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.store.read_ahead import Piece
    from git_theta_ext.store.store import Store

_BACKDATE_NS = 2_000_000_000
"""Git looks again at a file as young as its index; one that seems older than what it replaces is left alone."""


def read_layout(manifest: Manifest, store: Store, path: str) -> Layout:
    """Return the layout that a manifest's skeleton holds.

    Raises:
        ManifestError: The skeleton belongs to other parameters than the manifest lists.
        MissingError: The skeleton is not in the store.
        CorruptError: What is stored is another.
    """
    layout = read_skeleton(store, manifest.skeleton, parameters=len(manifest.parameters), path=path)
    specs = {name: parameter.spec for name, parameter in manifest.parameters.items()}
    if layout.parameters != specs:
        odd = sorted(name for name in {*specs, *layout.parameters} if specs.get(name) != layout.parameters.get(name))
        raise ManifestError(
            f"{path}: the manifest's parameters and its layout disagree on {shortlist(map(repr, odd), 1)}",
            hint="a textual merge may have mixed two layouts; merge again with git theta installed",
        )
    return layout


def populate(
    manifest: Manifest, store: Store, path: Path, expected: Expected, advance: Callable[[int], None] = no_progress
) -> os.stat_result | None:
    """Write a checkpoint from its manifest, elsewhere first and in its place when it is complete.

    Args:
        manifest: Without conflicts.
        store: Holds all that the manifest names.
        path: Of the checkpoint.
        expected: What it replaces, and whose mode it gets. A new file gets the mode that any new file gets.
        advance: Told the number of bytes written, as it goes.

    Returns:
        The stat of the new file, whose modification time lies two seconds before now and before that of the file that
        it replaces. None if another program put something else there meanwhile, which is kept.

    Raises:
        ManifestError: It holds conflicts, or its layout does not fit it.
        MissingError: The store lacks something; ``path`` is as it was.
        CorruptError: The store holds something wrong; ``path`` is as it was.
        StoreError: The file cannot be written; ``path`` is as it was.
    """
    if manifest.conflicted:
        raise ManifestError(f"{path}: unresolved conflicts", hint=f"git theta resolve {quote(str(path))}")
    layout = read_layout(manifest, store, str(path))
    with reporting_os_errors(path), Unfinished(path, store.root) as unfinished:
        descriptor = unfinished.descriptor
        _write(descriptor, layout, manifest, store, advance)
        past = _past(expected)
        os.utime(descriptor, ns=(past, past))
        made = os.fstat(descriptor)
        if not unfinished.put(expected):
            return None
        placed = os.fstat(descriptor)
        # What another program has written to it since then shows against the stat from before.
        return placed if identity(placed) == identity(made) else made


def _past(expected: Expected) -> int:
    # Git wrote the manifest there before its index, however long populating takes.
    now = time.time_ns()
    return (now if expected.stat is None else min(now, expected.stat.st_mtime_ns)) - _BACKDATE_NS


def _write(descriptor: int, layout: Layout, manifest: Manifest, store: Store, advance: Callable[[int], None]) -> None:
    """Write a file from its beginning to its end, as far as threads keep that order.

    File systems make a file longer on disk only when the bytes are there. So one that a power cut took the end of is
    shorter than git's index says, and is not taken for complete. To set its size first would undo that.
    """
    slices: list[tuple[int, Slice]] = []
    behind: list[tuple[int, Literal]] = []
    sums: dict[str, dict[int, int]] = {}  # by name and seed
    for offset, segment in layout.located():
        if isinstance(segment, Slice):
            slices.append((offset, segment))
            for start, literal in behind:
                _write_at(descriptor, memoryview(literal.data), start)
            behind.clear()
        elif isinstance(segment, Literal):
            behind.append((offset, segment))
            advance(segment.nbytes)
        else:
            sums.setdefault(segment.name, {})[segment.seed] = segment.seed

    def write(piece: Piece) -> None:
        _write_at(descriptor, piece.data, slices[piece.group][0] + piece.offset)

    wanted = [(manifest.parameters[part.name].digest, part.spec) for _, part in slices]
    for piece in store.read_ahead(wanted, write):
        advance(piece.data.nbytes)
        begun = sums.get(slices[piece.group][1].name, {})
        begun.update({seed: zlib.crc32(piece.data, value) for seed, value in begun.items()})
    for offset, segment in layout.located():
        if isinstance(segment, Checksum):
            _write_at(descriptor, memoryview(sums[segment.name][segment.seed].to_bytes(4, "little")), offset)
            advance(segment.nbytes)
    for offset, literal in behind:
        _write_at(descriptor, memoryview(literal.data), offset)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data.nbytes:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
