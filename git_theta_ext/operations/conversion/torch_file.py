"""Write a state dict as ``torch.save`` does."""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.state_dicts import element_types, to_tensor
from git_theta_ext.operations.conversion.tensors import each
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.tensors import Tensors

_ALIGNMENT = 64


def types() -> Mapping[str, object]:
    """Return the element types that can be written, as torch has them.

    Raises:
        LibraryError: torch is not installed.
    """
    require("torch", "writing files of torch")
    return element_types()


def refuse(specs: Mapping[str, TensorSpec]) -> None:
    """Refuse nothing: a state dict may have any name and shape."""


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:  # noqa: ARG001 - torch has no metadata
    """Write tensors; see ``Target``. A mapped temporary file holds them, so that memory is bounded."""
    import torch

    places: dict[str, tuple[int, TensorSpec]] = {}
    with tempfile.TemporaryFile(dir=path.parent) as file:
        for name, spec, chunks in each(tensors, list(tensors.specs)):
            file.seek(-file.tell() % _ALIGNMENT, 1)
            places[name] = (file.tell(), spec)
            file.writelines(chunks)
        size = file.tell()
        file.truncate(size)
        file.flush()
        content = memoryview(mmap.mmap(file.fileno(), size) if size else b"")
        state = {name: to_tensor(spec, content[at : at + spec.nbytes]) for name, (at, spec) in places.items()}
        with path.open("wb") as output:
            torch.save(state, output)
