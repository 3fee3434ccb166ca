"""Convert a checkpoint to its manifest, and store its tensors. The manifest depends on the bytes alone."""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.packing import while_packed
from git_theta_ext.checkpoint.scan import malformed, scan
from git_theta_ext.checkpoint.writers import being_written
from git_theta_ext.errors import ChangedError, FormatError
from git_theta_ext.model.layout import Literal, layout_of
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import SHARED_HASH, TensorHasher, tensor_digest
from git_theta_ext.records import dataclass, replace
from git_theta_ext.store.packs.checked import FileSource
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import batched_map, no_progress, pool, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.checkpoint.scan import Scan
    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Extent
    from git_theta_ext.model.layout import Layout
    from git_theta_ext.store.store import Store, Value
    from git_theta_ext.util.file_bytes import FileBytes

_PIECE, _SHARED_PIECE = 1 << 19, 1 << 22
"""Bytes that are read and hashed at a time, by one thread and by several."""
_LARGE = 1 << 18
"""Bytes of a tensor from which on a look-up takes less time than hashing it twice."""
_SAMPLED = 5
"""One large tensor in this many is looked up first; layers rarely have a multiple of five tensors of one size."""
_LONGEST_LINE, _ESCAPED = 2000, 12
"""Bytes that a line of a manifest takes at most besides its name, and for each character of the name."""
_FEWEST = 4
"""A smaller sample says nothing about the other tensors."""


class _LayoutError(FormatError):
    """The tensors that a format found do not make a layout. The message does not name the file."""


@dataclass(frozen=True)
class _Hashed:
    """A tensor's digest, and its checksums by where they begin."""

    parameter: Parameter
    checksums: Mapping[int, int]


@dataclass(frozen=True)
class Described:
    """The manifest of a checkpoint, its layout, and the positions of its tensors."""

    manifest: Manifest
    layout: Layout
    scan: Scan


def describe(  # noqa: PLR0913 - named, and all but the first two have defaults
    data: Content,
    path: str,
    format_name: str | None = None,
    *,
    threads: int = 0,
    advance: Callable[[int], None] = no_progress,
    root: Path | None = None,
) -> Described:
    """Return the manifest of a checkpoint without storing anything.

    Args:
        data: The whole file.
        path: For messages.
        format_name: As for ``scan``.
        threads: Number of threads that hash; 0 for one per CPU.
        advance: Called with the number of bytes hashed since the last call.
        root: As for ``scan``.

    Raises:
        PluginError: As ``scan``.
    """

    def described(scanned: Scan) -> Described:
        content = scanned.unpacked or data
        counted = _counted(data, scanned, advance)
        return _described(content, scanned, _hash(content, scanned, scanned.extents, threads, counted))

    scanned = scan(data, path, format_name, root, threads=threads, advance=advance)
    try:
        return described(scanned)
    except _LayoutError as error:
        return described(malformed(data, path, error))


def _hash(
    data: Content,
    scanned: Scan,
    extents: Sequence[Extent],
    threads: int,
    advance: Callable[[int], None] = no_progress,
) -> dict[str, _Hashed]:
    count = thread_count(threads)

    def digest(extent: Extent) -> _Hashed:
        shared = count if extent.spec.nbytes >= SHARED_HASH else 1
        return _digest(data, extent, scanned.seeds.get(extent.name, ()), shared)

    hashed: dict[str, _Hashed] = {}
    with pool(count, sum(extent.spec.nbytes for extent in extents)) as executor:
        results = batched_map(executor, digest, extents, 4 * count, lambda extent: extent.spec.nbytes)
        for extent, result in zip(extents, results, strict=True):
            hashed[extent.name] = result
            advance(extent.spec.nbytes)
    return hashed


def _described(data: Content, scanned: Scan, hashed: Mapping[str, _Hashed]) -> Described:
    try:
        layout = layout_of(data, scanned.fields, lambda extent, seed: hashed[extent.name].checksums[seed])
        layout = replace(layout, packings=scanned.packings) if scanned.packings else layout
        skeleton = layout.to_skeleton()
    except FormatError as error:
        raise _LayoutError(error.message) from error
    parameters = {extent.name: hashed[extent.name].parameter for extent in scanned.extents}
    manifest = Manifest(scanned.format, Skeleton.of(skeleton), parameters)
    if sum(_LONGEST_LINE + _ESCAPED * len(name) for name in parameters) > MAX_MANIFEST:
        nbytes = len(manifest.to_bytes())  # takes long, and is rarely needed
        if nbytes > MAX_MANIFEST:
            raise _LayoutError(f"a manifest of {nbytes} bytes, which exceeds the limit of {MAX_MANIFEST}")
    return Described(manifest, layout, scanned)


def _digest(data: Content, extent: Extent, seeds: Collection[int], threads: int) -> _Hashed:
    """Return a tensor's digest and its checksums, both of the same bytes."""
    if not seeds and extent.spec.nbytes <= _PIECE:
        return _Hashed(Parameter(extent.spec, tensor_digest(extent.spec, data[extent.offset : extent.end])), {})
    hasher, sums = TensorHasher(extent.spec, threads=threads), {seed: seed for seed in seeds}
    size = _PIECE if threads == 1 else _SHARED_PIECE
    for start in range(extent.offset, extent.end, size):
        piece = data[start : min(start + size, extent.end)]
        hasher.update(piece)
        sums.update({seed: zlib.crc32(piece, value) for seed, value in sums.items()})
    return _Hashed(Parameter(extent.spec, hasher.digest()), sums)


def clean(  # noqa: PLR0913 - named, and all but the first three have defaults
    data: FileBytes | memoryview,
    path: str,
    store: Store,
    format_name: str | None = None,
    advance: Callable[[int], None] = no_progress,
    *,
    strict: Callable[[], bool] = lambda: False,
) -> Described:
    """Store the tensors and the skeleton of a checkpoint, and return its manifest. All of it is durable on return.

    A digest is always that of the encoded bytes. Tensors are hashed to find out which of them the store lacks.
    These are read again, and hashed again as they are encoded: both digests must agree. Tensors that are probably new
    are read once and hashed only as they are encoded, if any change shows in the times of the file, which the caller
    has to compare: if the file is settled, and no program has it open for writing.

    Args:
        data: The whole file.
        path: For messages.
        store: The store to write to.
        format_name: As for ``scan``.
        advance: Called with the number of bytes stored, or found in the store, since the last call.
        strict: Asked if the file does not follow its format. If it returns True, that is an error.

    Raises:
        ChangedError: Another program changed the file. No manifest names what may have been stored.
        FormatError: The file does not follow its format, and ``strict`` says that this is an error.
        PluginError: As ``scan``.
        StoreError: The store cannot be written.
    """
    scanned = scan(data, path, format_name, store.root, threads=store.threads, advance=advance)
    if scanned.malformed is None:
        try:
            return _store(data, scanned, store, advance)
        except _LayoutError as error:
            scanned = malformed(data, path, error)
    if scanned.malformed is not None and strict():
        raise scanned.malformed
    return _store(data, scanned, store, advance)


def _counted(data: Content, scanned: Scan, advance: Callable[[int], None]) -> Callable[[int], None]:
    """Return what counts the bytes of the tensors, if ``advance`` counts those of the file."""
    content = scanned.unpacked or data
    return while_packed(advance, data.nbytes, content.nbytes, len(scanned.packings))


def _store(data: FileBytes | memoryview, scanned: Scan, store: Store, advance: Callable[[int], None]) -> Described:
    advance = _counted(data, scanned, advance)
    data = scanned.unpacked or data
    hashed: dict[str, _Hashed] = {}
    stored: set[str] = set()
    if not isinstance(data, memoryview) and data.settled:
        hashed, stored = _store_likely_new(data, scanned, store, advance)
    rest = [extent for extent in scanned.extents if extent.name not in hashed]
    described = _described(data, scanned, hashed | _hash(data, scanned, rest, store.threads))
    parameters, skeleton = described.manifest.parameters, described.layout.to_skeleton()
    left = [extent for extent in scanned.extents if extent.name not in stored]
    store.put(
        [
            *((extent.spec, parameters[extent.name].digest, value_of(data, extent)) for extent in left),
            (described.manifest.skeleton.spec, described.manifest.skeleton.digest, memoryview(skeleton)),
        ],
        advance,
    )
    if not isinstance(data, memoryview):
        _check_literals(data, described.layout)
    return described


def _store_likely_new(
    data: FileBytes, scanned: Scan, store: Store, advance: Callable[[int], None]
) -> tuple[dict[str, _Hashed], set[str]]:
    """Store large tensors without knowing their digests, if all tensors of a sample are new, or the store is empty.

    Nothing is stored if a program may write to the file through a mapping, which changes no times, if the format has
    checksums of tensors, or if two tensors have one name.

    Returns:
        The digests that were computed, and the names of the tensors that were stored.
    """
    large = [extent for extent in scanned.extents if extent.spec.nbytes >= _LARGE]
    # Without the largest ones, such as embeddings: encoding one for nothing takes less time than hashing it twice.
    sample = sorted(large, key=lambda extent: -extent.spec.nbytes)[_SAMPLED // 2 :: _SAMPLED]
    unusual = scanned.seeds or len({extent.name for extent in large}) < len(large)
    if not large or unusual or being_written(data.fileno()):
        return {}, set()
    hashed: dict[str, _Hashed] = {}
    if not store.is_empty():
        if len(sample) < _FEWEST:
            return {}, set()
        hashed = _hash(data, scanned, sample, store.threads)
        digests = {tensor.parameter.digest for tensor in hashed.values()}
        if store.touch_and_find_missing(digests) != digests:
            return hashed, set()
    targets = [partial(FileSource, extent.spec, data, extent.offset, extent.name) for extent in large]
    for extent, digest in zip(large, store.put_unnamed(targets, advance), strict=True):
        hashed[extent.name] = _Hashed(Parameter(extent.spec, digest), {})
    return hashed, set(hashed)


def value_of(data: FileBytes | memoryview, extent: Extent) -> Value:
    """Return a tensor of a checkpoint as a value for ``Store.put``."""
    if isinstance(data, memoryview):
        return data[extent.offset : extent.end]
    return FileSource(extent.spec, data, extent.offset, extent.name)


def _check_literals(data: FileBytes, layout: Layout) -> None:
    for offset, segment in layout.located():
        if isinstance(segment, Literal) and data.read(offset, offset + segment.nbytes) != segment.data:
            raise ChangedError(f"{shown_path(data.path)} changed while it was read")
