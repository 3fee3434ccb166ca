"""The tensors of a checkpoint, or of statistics, in a file."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, StoreError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.layout import Extent
from git_theta_ext.model.manifest import Parameter, is_manifest, values_digest
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.registry import detect_format

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest, TensorSpec

_MANY_BYTES = 1 << 27
_THREADS = 8
"""That hash a tensor of so many bytes."""


@dataclass(frozen=True)
class Opened:
    """A file whose tensors are known.

    Attributes:
        data: All of it; what is written into it goes nowhere.
        extents: Where the tensors are, by name.
    """

    data: memoryview
    extents: dict[str, Extent]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Element type and shape of every tensor."""
        return {name: extent.spec for name, extent in self.extents.items()}

    def bytes_of(self, name: str) -> memoryview:
        """Return a tensor's little-endian bytes."""
        extent = self.extents[name]
        return self.data[extent.offset : extent.end]

    def values(self) -> Digest:
        """Return the digest of all values; reads the whole file."""
        return values_digest({name: Parameter(spec, self._digest(name, spec)) for name, spec in self.specs.items()})

    def _digest(self, name: str, spec: TensorSpec) -> Digest:
        threads = _THREADS if spec.nbytes >= _MANY_BYTES else 1
        return tensor_digest(spec, self.bytes_of(name), threads=threads)


def opened(path: Path) -> Opened:
    """Open a file and find its tensors.

    Raises:
        FormatError: It cannot be taken apart, or only a manifest lies in its place.
        StoreError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Torch shares memory only that could be written to.
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", hint="save the checkpoint first") from error
    except ValueError as error:  # nothing cannot be mapped
        raise FormatError(f"{path}: the file is empty", hint="save the checkpoint first") from error
    if is_manifest(data):
        raise FormatError(f"{path}: in its place lies only its manifest", hint=f"git theta checkout {path}")
    try:
        fields = detect_format(data).parse(data)
    except (NotSplittable, FormatError) as error:
        raise FormatError(f"{path}: its tensors cannot be found: {error}") from error
    return Opened(data, {part.name: part for part in fields if isinstance(part, Extent)})
