"""The tensors of a checkpoint, or of statistics, in a file."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, StoreError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.layout import Extent
from git_theta_ext.model.manifest import Parameter, is_manifest, values_digest
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.registry import detect_format
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.util.file_bytes import FileBytes

_MANY_BYTES = 1 << 27
_THREADS = 8
"""That hash a tensor of so many bytes."""
_PIECE = 1 << 24
"""Bytes that are read in one go."""


@dataclass(frozen=True)
class Opened:
    """A file whose tensors are known.

    Attributes:
        data: All of it.
        extents: Where the tensors are, by name.
    """

    data: FileBytes
    extents: dict[str, Extent]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Element type and shape of every tensor."""
        return {name: extent.spec for name, extent in self.extents.items()}

    def bytes_of(self, name: str) -> memoryview:
        """Return a copy of a tensor's little-endian bytes, which may be written to."""
        extent = self.extents[name]
        copy = memoryview(bytearray(extent.spec.nbytes))
        for start in range(0, extent.spec.nbytes, _PIECE):
            end = min(start + _PIECE, extent.spec.nbytes)
            copy[start:end] = self.data[extent.offset + start : extent.offset + end]
        return copy

    def values(self) -> Digest:
        """Return the digest of all values; reads the whole file."""
        return values_digest({name: Parameter(spec, self._digest(name, spec)) for name, spec in self.specs.items()})

    def _digest(self, name: str, spec: TensorSpec) -> Digest:
        extent = self.extents[name]
        hasher = TensorHasher(spec, threads=_THREADS if spec.nbytes >= _MANY_BYTES else 1)
        for start in range(extent.offset, extent.end, _PIECE):
            hasher.update(self.data[start : min(start + _PIECE, extent.end)])
        return hasher.digest()


def opened(path: Path) -> Opened:
    """Open a file and find its tensors.

    Raises:
        FormatError: It cannot be taken apart, or only a manifest lies in its place.
        ChangedError: It was cut short while it was read.
        StoreError: It cannot be read.
    """
    try:
        data = open_bytes(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", hint="save the checkpoint first") from error
    if not data.nbytes:
        raise FormatError(f"{path}: the file is empty", hint="save the checkpoint first")
    if is_manifest(data):
        raise FormatError(f"{path}: in its place lies only its manifest", hint=f"git theta checkout {quote(str(path))}")
    try:
        fields = detect_format(data).parse(data)
    except (NotSplittable, FormatError) as error:
        raise FormatError(f"{path}: its tensors cannot be found: {error}") from error
    return Opened(data, {part.name: part for part in fields if isinstance(part, Extent)})
