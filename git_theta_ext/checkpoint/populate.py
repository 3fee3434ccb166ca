"""From a manifest to the checkpoint's bytes: decoded in threads, verified, and in place all at once."""

from __future__ import annotations

import os
import secrets
import time
import zlib
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.replace import replace_file
from git_theta_ext.errors import CorruptError, FormatError, ManifestError
from git_theta_ext.model.layout import Checksum, Layout, Literal, Slice
from git_theta_ext.model.tensor import skeleton_spec
from git_theta_ext.store.pool import no_progress
from git_theta_ext.store.writer import clear_stale, explained, temporary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.store.blobs import Store

_BACKDATE_NS = 2_000_000_000
"""Git looks again at a file as young as its index; one that seems older than what it replaces is left alone."""


def read_layout(manifest: Manifest, store: Store, path: str) -> Layout:
    """Return the layout that a manifest's skeleton holds.

    Raises:
        ManifestError: The skeleton belongs to other parameters than the manifest lists.
        MissingError: The skeleton is not in the store.
        CorruptError: What is stored is another.
    """
    skeleton = manifest.skeleton
    data = store.read(skeleton.digest, skeleton_spec(skeleton.nbytes))
    try:
        layout = Layout.from_skeleton(data, len(manifest.parameters))
    except FormatError as error:
        raise CorruptError(f"{path}: skeleton {skeleton.digest}: {error.message}") from error
    specs = {name: parameter.spec for name, parameter in manifest.parameters.items()}
    if layout.parameters != specs:
        odd = sorted(name for name in {*specs, *layout.parameters} if specs.get(name) != layout.parameters.get(name))
        raise ManifestError(
            f"{path}: the manifest's parameters and its layout disagree on {odd[0]!r}"
            + (f" and {len(odd) - 1} others" if len(odd) > 1 else ""),
            hint="a textual merge may have mixed two layouts; merge again with git theta installed",
        )
    return layout


def populate(
    manifest: Manifest, store: Store, path: Path, mode: int = 0o644, advance: Callable[[int], None] = no_progress
) -> os.stat_result:
    """Write a checkpoint from its manifest, elsewhere first and in its place when it is complete.

    Args:
        manifest: Without conflicts.
        store: Holds all that the manifest names.
        path: Of the checkpoint; replaced if it is there.
        mode: Permission bits.
        advance: Told the number of bytes written, as it goes.

    Returns:
        The stat of the new file, whose modification time lies two seconds before now and before that of the file that
        it replaces.

    Raises:
        ManifestError: It holds conflicts, or its layout does not fit it.
        MissingError: The store lacks something; ``path`` is as it was.
        CorruptError: The store holds something wrong; ``path`` is as it was.
        StoreError: The file cannot be written; ``path`` is as it was.
    """
    if manifest.conflicted:
        raise ManifestError(f"{path}: unresolved conflicts", hint=f"git theta resolve {path}")
    layout = read_layout(manifest, store, str(path))
    unfinished = _beside(path, store)
    try:
        with explained(path):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(descriptor, layout, manifest, store, advance)
                os.fchmod(descriptor, mode & 0o7777)
            finally:
                os.close(descriptor)
            past = _past(path)
            os.utime(unfinished, ns=(past, past))
            replace_file(unfinished, path)
            return path.lstat()
    finally:
        unfinished.unlink(missing_ok=True)


def _beside(path: Path, store: Store) -> Path:
    """Return a name for the file in the making, from which it can be renamed into place.

    In the store's folder where that is the same file system, so that a crash leaves nothing in the work tree that
    ``git add`` would take.
    """
    with explained(store.root):
        clear_stale(store.root)
        unfinished = temporary(store.root)
    if unfinished.parent.stat().st_dev == path.parent.stat().st_dev:
        return unfinished
    return path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.theta")


def _past(path: Path) -> int:
    # Git wrote the manifest there before its index, however long populating takes.
    now = time.time_ns()
    try:
        return min(now, path.lstat().st_mtime_ns) - _BACKDATE_NS
    except OSError:
        return now - _BACKDATE_NS


def _write(descriptor: int, layout: Layout, manifest: Manifest, store: Store, advance: Callable[[int], None]) -> None:
    os.ftruncate(descriptor, layout.nbytes)
    slices: list[tuple[int, Slice]] = []
    sums: dict[str, dict[int, int]] = {}  # by name and seed
    for offset, segment in layout.located():
        if isinstance(segment, Slice):
            slices.append((offset, segment))
        elif isinstance(segment, Literal):
            _write_at(descriptor, memoryview(segment.data), offset)
            advance(segment.nbytes)
        else:
            sums.setdefault(segment.name, {})[segment.seed] = segment.seed

    def sink(item: int, offset: int, chunk: memoryview) -> None:
        _write_at(descriptor, chunk, slices[item][0] + offset)

    wanted = [(manifest.parameters[part.name].digest, part.spec) for _, part in slices]
    for item, _, chunk in store.chunks(wanted, sink):
        advance(chunk.nbytes)
        begun = sums.get(slices[item][1].name, {})
        begun.update({seed: zlib.crc32(chunk, value) for seed, value in begun.items()})
    for offset, segment in layout.located():
        if isinstance(segment, Checksum):
            _write_at(descriptor, memoryview(sums[segment.name][segment.seed].to_bytes(4, "little")), offset)
            advance(segment.nbytes)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data.nbytes:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
