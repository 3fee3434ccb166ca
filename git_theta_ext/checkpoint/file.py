"""Open a checkpoint file for reading."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.scan import scan
from git_theta_ext.errors import FormatError, StoreError, UsageError
from git_theta_ext.model.manifest import Parameter, is_manifest, values_digest
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.records import dataclass
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.threads import thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

    from git_theta_ext.checkpoint.scan import Scan
    from git_theta_ext.model.fields import Extent
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.util.file_bytes import FileBytes


@dataclass(frozen=True)
class CheckpointFile:
    """An open checkpoint file.

    Attributes:
        label: Name of the file in messages.
        data: Bytes of the file, or of its content if it is compressed.
        scan: Positions of its tensors.
    """

    label: str
    data: FileBytes
    scan: Scan

    @classmethod
    def of(cls, label: str, data: FileBytes, scan: Scan) -> Self:
        """Return an open checkpoint, whose data is the content of the file if it is compressed."""
        return cls(label, scan.unpacked or data, scan)

    @cached_property
    def extents(self) -> dict[str, Extent]:
        """The position of each tensor, by name."""
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
        """Return a writable copy of a tensor's bytes."""
        copy = memoryview(bytearray(self.extents[name].spec.nbytes))
        position = 0
        for chunk in self.chunks(name):
            copy[position : position + chunk.nbytes] = chunk
            position += chunk.nbytes
        return copy

    def values_digest(self) -> Digest:
        """Return the digest of all values, which takes reading the whole file."""
        return values_digest(self.parameters())

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters by name, which takes reading the whole file."""
        return {name: Parameter(spec, self._digest(name, spec)) for name, spec in self.specs.items()}

    def _digest(self, name: str, spec: TensorSpec) -> Digest:
        hasher = TensorHasher(spec, threads=thread_count(0))
        for chunk in self.chunks(name):
            hasher.update(chunk)
        return hasher.digest()


def open_file(path: Path, label: str, argument: str = "") -> FileBytes:
    """Open a file that should be a checkpoint.

    Args:
        path: Path of the file.
        label: Name of the file in messages.
        argument: The file as the user types it in a command, quoted for the shell; the label if empty.

    Raises:
        UsageError: The file is a manifest.
        StoreError: The file cannot be read.
    """
    try:
        data = open_bytes(path, label)
    except OSError as error:
        raise StoreError(
            f"cannot read {shown_path(label)}: {error.strerror}", hint="check the path, or save the file"
        ) from error
    if is_manifest(data):
        raise UsageError(
            f"{shown_path(label)} is only a manifest", hint=f"git theta checkout {argument or shell_word(label)}"
        )
    return data


def open_checkpoint_file(path: Path, label: str = "", format_name: str | None = None) -> CheckpointFile:
    """Open a checkpoint file, whose tensors are required.

    The content of a compressed file is unpacked into the file's directory, whose disk has space for large files, or
    elsewhere if that is read-only.

    Args:
        path: Path of the file.
        label: Name of the file in messages; the path if empty.
        format_name: Name of its format; None to detect it.

    Raises:
        UsageError: The file is a manifest.
        FormatError: The file does not follow its format, or its tensors cannot be found.
        ChangedError: The file was truncated while it was read.
        StoreError: The file cannot be read.
    """
    label = label or str(path)
    data = open_file(path, label)
    if not data.nbytes:
        raise FormatError(f"{shown_path(label)}: the file is empty", hint="save the checkpoint first")
    scanned = scan(data, label, format_name, path.parent)
    if scanned.malformed is not None:
        raise scanned.malformed
    if scanned.format == "opaque":
        raise FormatError(
            scanned.reason or f"{shown_path(label)}: its tensors cannot be found, since no format recognises the file"
        )
    return CheckpointFile.of(label, data, scanned)
