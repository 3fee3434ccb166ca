"""A checkpoint in a file, opened for reading."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.scan import scan
from git_theta_ext.errors import FormatError, StoreError, UsageError
from git_theta_ext.model.manifest import Parameter, is_manifest, values_digest
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.threads import thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_theta_ext.checkpoint.scan import Scan
    from git_theta_ext.model.layout import Extent
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.util.file_bytes import FileBytes

_SHARED_HASH = 1 << 27
"""From this many bytes on, several threads hash one tensor."""


@dataclass(frozen=True)
class CheckpointFile:
    """A file whose tensors are known.

    Attributes:
        label: Its name in messages.
        data: Its bytes.
        scan: Where its tensors are.
    """

    label: str
    data: FileBytes
    scan: Scan

    @cached_property
    def extents(self) -> dict[str, Extent]:
        """Where each tensor is, by name."""
        return {extent.name: extent for extent in self.scan.extents}

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Element type and shape of each tensor, by name."""
        return {name: extent.spec for name, extent in self.extents.items()}

    def chunks(self, name: str) -> Iterator[memoryview]:
        """Yield a tensor's bytes, ``spec.chunk_bytes`` at a time."""
        extent = self.extents[name]
        for start in range(extent.offset, extent.end, extent.spec.chunk_bytes):
            yield self.data[start : min(start + extent.spec.chunk_bytes, extent.end)]

    def value(self, name: str) -> memoryview:
        """Return a copy of a tensor's bytes, which may be written to."""
        copy = memoryview(bytearray(self.extents[name].spec.nbytes))
        position = 0
        for chunk in self.chunks(name):
            copy[position : position + chunk.nbytes] = chunk
            position += chunk.nbytes
        return copy

    def values_digest(self) -> Digest:
        """Return the digest of all values; reads the whole file."""
        return values_digest({name: Parameter(spec, self._digest(name, spec)) for name, spec in self.specs.items()})

    def _digest(self, name: str, spec: TensorSpec) -> Digest:
        hasher = TensorHasher(spec, threads=thread_count(0) if spec.nbytes >= _SHARED_HASH else 1)
        for chunk in self.chunks(name):
            hasher.update(chunk)
        return hasher.digest()


def open_file(path: Path, label: str) -> FileBytes:
    """Open a file that should hold a checkpoint.

    Args:
        path: Of the file.
        label: Its name in messages.

    Raises:
        UsageError: It is a manifest.
        StoreError: It cannot be read.
    """
    try:
        data = open_bytes(path, label)
    except OSError as error:
        raise StoreError(f"cannot read {label}: {error.strerror}", hint="check the path, or save the file") from error
    if is_manifest(data):
        raise UsageError(f"{label} is only a manifest", hint=f"git theta checkout {quote(label)}")
    return data


def open_checkpoint_file(path: Path, label: str = "", format_name: str | None = None) -> CheckpointFile:
    """Open a checkpoint that has to have tensors.

    Args:
        path: Of the file.
        label: Its name in messages; the path if empty.
        format_name: The name of its format; None to detect it.

    Raises:
        UsageError: It is a manifest.
        FormatError: It breaks its format, or cannot be split into tensors.
        ChangedError: It was cut short while it was read.
        StoreError: It cannot be read.
    """
    label = label or str(path)
    data = open_file(path, label)
    if not data.nbytes:
        raise FormatError(f"{label}: the file is empty", hint="save the checkpoint first")
    found = scan(data, label, format_name)
    if found.format == "opaque":
        raise FormatError(found.reason or f"{label}: its tensors cannot be found, since no format recognises the file")
    return CheckpointFile(label, data, found)
