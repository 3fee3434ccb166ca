"""Write a group of zarr, in which each array has the name of its parameter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.conversion.array_files import refuse_path, refuse_shapes, types, write_array
from git_theta_ext.operations.conversion.tensors import each

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.tensors import Tensors

__all__ = ["refuse", "types", "write"]

_RESERVED = ("__", ".z", "zarr.json")
_GROUPS = {2: (".zgroup", {"zarr_format": 2}), 3: ("zarr.json", {"zarr_format": 3, "node_type": "group"})}


def refuse(specs: Mapping[str, TensorSpec]) -> None:
    """Refuse what a group cannot hold.

    Raises:
        FormatError: A name would mean another group, or is reserved; or an array has too many dimensions.
    """
    for name in specs:
        refuse_path(name)
        if "/" in name or name.startswith(_RESERVED) or not name.strip("."):
            raise FormatError(f"parameter {name!r} has a name that zarr reserves, or divides into groups at the slash")
    refuse_shapes(specs)


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str], *, version: int) -> None:  # noqa: ARG001 - as Target
    """Write tensors; see ``Target``."""
    name, group = _GROUPS[version]
    (path / name).write_text(json.dumps(group))
    for name, spec, chunks in each(tensors, list(tensors.specs)):
        write_array({"driver": "file", "path": f"{path}/{name}/"}, version, spec, chunks)
