"""From a checkpoint's bytes to its manifest, and its tensors into the store. A pure function of the bytes."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.layout import Extent, Layout, layout_of
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import skeleton_spec, tensor_digest
from git_theta_ext.registry import detect_format, find_format
from git_theta_ext.store.pool import no_progress, ordered_map, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.interfaces import Format
    from git_theta_ext.model.layout import Field
    from git_theta_ext.store.blobs import Store

_SHARED_HASH = 1 << 27
"""From this many bytes on, several threads hash one tensor."""


@dataclass(frozen=True)
class Scan:
    """What is where in a checkpoint.

    Attributes:
        format: Name of the format.
        layout: The whole file.
        extents: Where the tensors are, in file order.
        note: Something the user should know, such as why the file was not split.
    """

    format: str
    layout: Layout
    extents: tuple[Extent, ...]
    note: str | None = None


@dataclass(frozen=True)
class Described:
    """A checkpoint's manifest and where its tensors are."""

    manifest: Manifest
    scan: Scan


def scan(data: memoryview, path: str, format_name: str | None = None) -> Scan:
    """Find the tensors in a checkpoint.

    Args:
        data: The whole file.
        path: For messages.
        format_name: From the ``theta-format`` attribute; None to detect it from the content.

    Raises:
        FormatError: The file breaks its format; the message names it.
        PluginError: There is no such format.
    """
    found = find_format(format_name) if format_name else detect_format(data)
    note = None
    try:
        try:
            fields = _parse(found, data)
        except NotSplittable as reason:
            note = f"{path}: {reason}; stored without knowing its tensors"
            found = find_format("opaque")
            fields = found.parse(data)
        extents = sorted((f for f in fields if isinstance(f, Extent)), key=lambda extent: (extent.offset, extent.end))
        return Scan(found.name, layout_of(data, fields, zlib.crc32), tuple(extents), note)
    except FormatError as error:
        hint = (
            error.hint or f"to track it without looking inside, add 'theta-format=opaque' to {path} in .gitattributes"
        )
        raise FormatError(f"{path}: {error.message}", hint=hint) from error


def _parse(found: Format, data: memoryview) -> Sequence[Field]:
    try:
        return found.parse(data)
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        # A plug-in's oversight must not look like a crash of git.
        raise FormatError(f"not a readable {found.name} file ({type(error).__name__}: {error})") from error


def describe(
    data: memoryview,
    path: str,
    format_name: str | None = None,
    *,
    threads: int = 0,
    advance: Callable[[int], None] = no_progress,
) -> Described:
    """Return a checkpoint's manifest without storing anything.

    Args:
        data: The whole file.
        path: For messages.
        format_name: As for ``scan``.
        threads: For hashing; 0 for one each processor.
        advance: Told the number of bytes hashed, as it goes.

    Raises:
        FormatError: As ``scan``.
        PluginError: As ``scan``.
    """
    found = scan(data, path, format_name)
    count = thread_count(threads)

    def digest(extent: Extent) -> Parameter:
        shared = count if extent.spec.nbytes >= _SHARED_HASH else 1
        name = tensor_digest(extent.spec, data[extent.offset : extent.end], threads=shared)
        return Parameter(extent.spec, name)

    parameters: dict[str, Parameter] = {}
    with ThreadPoolExecutor(count) as executor:
        hashed = ordered_map(executor, digest, found.extents, 4 * count)
        for extent, parameter in zip(found.extents, hashed, strict=True):
            parameters[extent.name] = parameter
            advance(extent.spec.nbytes)
    skeleton = found.layout.to_skeleton()
    name = tensor_digest(skeleton_spec(len(skeleton)), skeleton)
    return Described(Manifest(found.format, Skeleton(name, len(skeleton)), parameters), found)


def clean(
    data: memoryview,
    path: str,
    store: Store,
    format_name: str | None = None,
    advance: Callable[[int], None] = no_progress,
) -> Described:
    """Store a checkpoint's tensors and skeleton, and return its manifest; all is durable on return.

    Args:
        data: The whole file.
        path: For messages.
        store: Where to.
        format_name: As for ``scan``.
        advance: Told the number of bytes stored or found stored, as it goes.

    Raises:
        FormatError: As ``scan``; nothing is stored.
        PluginError: As ``scan``.
        StoreError: The store cannot be written.
    """
    found = describe(data, path, format_name, threads=store.threads)
    parameters = found.manifest.parameters
    skeleton = found.scan.layout.to_skeleton()
    store.put(
        [
            *(
                (extent.spec, parameters[extent.name].digest, data[extent.offset : extent.end])
                for extent in found.scan.extents
            ),
            (skeleton_spec(len(skeleton)), found.manifest.skeleton.digest, memoryview(skeleton)),
        ],
        advance,
    )
    return found
