"""Write a checkpoint from its manifest: decode and verify its tensors in threads, and put it in place atomically."""

from __future__ import annotations

import os
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.packing import Packer, while_packed
from git_theta_ext.checkpoint.replace import identity
from git_theta_ext.checkpoint.unfinished import Unfinished
from git_theta_ext.errors import ManifestError
from git_theta_ext.model.checksums import checksums, seeds_of
from git_theta_ext.model.layout import Layout, Literal, Slice
from git_theta_ext.store.runs import Place
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.files import reporting_os_errors, write_at
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import shortlist
from git_theta_ext.util.threads import ALONE, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_ext.checkpoint.replace import Expected
    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.store import Store

WORTH = 1 << 25
"""Bytes of a file from which on it is written in jobs."""

BACKDATE_NS = 2_000_000_000
"""Git reads a file again that is as recent as its index, and trusts one that looks older than the replaced file."""


def read_layout(manifest: Manifest, store: Store, path: str) -> Layout:
    """Return the layout of a checkpoint, given its manifest.

    Raises:
        ManifestError: The layout has other parameters than the manifest.
        MissingError: The skeleton is not in the store.
        CorruptError: The skeleton is damaged.
    """
    layout = read_skeleton(store, manifest.skeleton, parameters=len(manifest.parameters), path=path)
    specs = dict(zip(manifest.columns.names, manifest.columns.specs, strict=True))
    if layout.parameters != specs:
        odd = sorted(name for name in {*specs, *layout.parameters} if specs.get(name) != layout.parameters.get(name))
        raise ManifestError(
            f"{shown_path(path)}: the manifest's parameters and its layout disagree on {shortlist(map(repr, odd), 1)}",
            hint="a textual merge may have mixed two layouts; merge again with git theta installed",
        )
    return layout


def populate(  # noqa: PLR0913, PLR0917 - the last three have defaults
    manifest: Manifest,
    store: Store,
    path: Path,
    expected: Expected,
    advance: Callable[[int], None] = no_progress,
    workers: Workers | None = None,
    draft: Path | None = None,
) -> os.stat_result | None:
    """Write a checkpoint from its manifest, first to a temporary file, which replaces the old file when it is complete.

    Args:
        manifest: The manifest, without conflicts.
        store: The store of its tensors.
        path: Path of the checkpoint.
        expected: The file to replace, whose mode the new file gets. Otherwise it gets the default mode.
        advance: Called with the number of bytes written since the last call.
        workers: Write a large file in jobs; None to write it in this process. Compressed files are written here.
        draft: The complete file, which is renamed and not written again; see ``draft.finished_draft``.

    Returns:
        The stat of the new file, whose modification time is two seconds before now and before that of the replaced
        file. None if another program saved another file at the path, which is kept.

    Raises:
        ManifestError: The manifest has conflicts, or its layout does not fit it.
        MissingError: A tensor is not in the store. The old file is unchanged.
        CorruptError: A stored tensor is damaged. The old file is unchanged.
        StoreError: The file cannot be written. The old file is unchanged.
    """
    if manifest.conflicted:
        raise ManifestError(f"{shown_path(str(path))}: unresolved conflicts", hint="git theta resolve")
    if draft is not None:
        with reporting_os_errors(path), Unfinished(path, store.root, made=draft) as unfinished:
            advance(os.fstat(unfinished.descriptor).st_size)
            return _put(unfinished, expected)
    layout = read_layout(manifest, store, str(path))
    divided = workers is not None and not layout.packings and layout.nbytes >= WORTH
    with reporting_os_errors(path), Unfinished(path, store.root, named=divided) as unfinished:
        descriptor = unfinished.descriptor
        if layout.packings:
            packer = Packer(str(path), store.root, store.threads, advance)
            content = packer.scratch()
            _write(content.fileno(), layout, manifest, store, while_packed(advance, layout.nbytes, layout.nbytes))
            content.nbytes = layout.nbytes
            packer.pack(content, layout.packings, descriptor)
        elif divided:
            assert workers is not None
            _write_in_jobs(unfinished, layout, manifest, store, workers, advance)
        else:
            _write(descriptor, layout, manifest, store, advance)
        return _put(unfinished, expected)


def _put(unfinished: Unfinished, expected: Expected) -> os.stat_result | None:
    """Put a complete file in place; see ``populate`` for the result."""
    descriptor, past = unfinished.descriptor, _past(expected)
    os.utime(descriptor, ns=(past, past))
    made = os.fstat(descriptor)
    if not unfinished.put(expected):
        return None
    placed = os.fstat(descriptor)
    # If another program has written to it since, it differs from the earlier stat.
    return placed if identity(placed) == identity(made) else made


def _past(expected: Expected) -> int:
    # Git wrote the manifest there before its index, no matter how long populating takes.
    now = time.time_ns()
    return (now if expected.stat is None else min(now, expected.stat.st_mtime_ns)) - BACKDATE_NS


def _write_in_jobs(  # noqa: PLR0913, PLR0917 - as _write
    unfinished: Unfinished,
    layout: Layout,
    manifest: Manifest,
    store: Store,
    workers: Workers,
    advance: Callable[[int], None],
) -> None:
    """Write a file whose tensors are written by jobs, and which is durable before anything else is."""
    from git_theta_ext.checkpoint.populate_jobs import TensorPlace, write_in_jobs  # a filter mostly starts without it

    seeds = {name: tuple(some) for name, some in seeds_of(layout).items()}
    slices = [(offset, segment) for offset, segment in layout.located() if isinstance(segment, Slice)]
    places = [
        TensorPlace(offset, manifest.parameters[part.name].digest, part.spec, seeds.get(part.name, ()))
        for offset, part in slices
    ]
    written = write_in_jobs(unfinished.path, places, store, workers, advance)
    sums = {part.name: found for (_, part), found in zip(slices, written, strict=True)}
    rest = [(offset, segment.data) for offset, segment in layout.located() if isinstance(segment, Literal)]
    for offset, value in [*rest, *checksums(layout, lambda name, seed: sums[name][seed])]:
        write_at(unfinished.descriptor, memoryview(value), offset)
        advance(len(value))
    os.fsync(unfinished.descriptor)


def _write(descriptor: int, layout: Layout, manifest: Manifest, store: Store, advance: Callable[[int], None]) -> None:
    """Write a file roughly from its beginning to its end, a small one at once.

    File systems extend a file on disk only when its bytes are written. So after a power cut an incomplete file is
    shorter than git's index says, and shows as modified. Setting its size first would break this.
    """
    if layout.nbytes > ALONE:
        _put_all(partial(write_at, descriptor), layout, manifest, store, advance)
        return
    content = memoryview(bytearray(layout.nbytes))

    def put(data: memoryview, offset: int) -> None:
        content[offset : offset + data.nbytes] = data

    _put_all(put, layout, manifest, store, advance)
    write_at(descriptor, content, 0)


def _put_all(
    put: Callable[[memoryview, int], None],
    layout: Layout,
    manifest: Manifest,
    store: Store,
    advance: Callable[[int], None],
) -> None:
    """Give ``put`` all bytes of a file, and the offset of each part."""
    slices: list[Slice] = []
    places: list[Place] = []
    pending: list[tuple[int, Literal]] = []
    digests = dict(zip(manifest.columns.names, manifest.columns.digests, strict=True))
    sums = {name: {seed: seed for seed in seeds} for name, seeds in seeds_of(layout).items()}
    for offset, segment in layout.located():
        if isinstance(segment, Slice):
            slices.append(segment)
            places.append(Place(offset, digests[segment.name], segment.spec))
            for start, literal in pending:
                put(memoryview(literal.data), start)
            pending.clear()
        elif isinstance(segment, Literal):
            pending.append((offset, segment))
            advance(segment.nbytes)

    runs = places if sums else store.in_runs(places)

    def write(piece: DecodedPiece) -> None:
        put(piece.data, runs[piece.group].offset + piece.offset)

    for piece in store.read_ahead([(run.digest, run.spec) for run in runs], write):
        advance(piece.data.nbytes)
        if sums and (begun := sums.get(slices[piece.group].name)):
            begun.update({seed: zlib.crc32(piece.data, value) for seed, value in begun.items()})
    for offset, value in checksums(layout, lambda name, seed: sums[name][seed]):
        put(memoryview(value), offset)
        advance(len(value))
    for offset, literal in pending:
        put(memoryview(literal.data), offset)
