"""Write a PyTree checkpoint of Orbax: nested dictionaries, whose keys are the parts of names between dots."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.conversion.array_files import refuse_path, refuse_shapes, types, write_array
from git_theta_ext.operations.conversion.tensors import each

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.tensors import Tensors

__all__ = ["refuse", "types", "write"]

_KEY_OF_DICTIONARY = 2
_ZARR = 2
_MOST_PENDING = 1 << 27
"""Bytes of arrays that are committed to the database together, since each commit writes its tree anew."""


def refuse(specs: Mapping[str, TensorSpec]) -> None:
    """Refuse what nested dictionaries cannot hold.

    Raises:
        FormatError: A parameter would be in another one, or its name cannot be a path; or it has too many dimensions.
    """
    for name in specs:
        refuse_path(name)
        parts = name.split(".")
        for count in range(1, len(parts)):
            outer = ".".join(parts[:count])
            if outer in specs:
                raise FormatError(f"parameter {name!r} would be in the parameter {outer!r}, and Orbax nests at dots")
    refuse_shapes(specs)


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:  # noqa: ARG001 - as Target
    """Write tensors; see ``Target``."""
    import tensorstore

    base = {"driver": "file", "path": f"{path}/"}
    transaction, pending = tensorstore.Transaction(), 0
    for name, spec, chunks in each(tensors, list(tensors.specs)):
        large = spec.nbytes > _MOST_PENDING
        if pending + spec.nbytes > _MOST_PENDING:
            transaction.commit_sync()
            transaction, pending = tensorstore.Transaction(), 0
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        write_array(store, _ZARR, spec, chunks, None if large else transaction)
        pending += 0 if large else spec.nbytes
    transaction.commit_sync()
    (path / "_METADATA").write_text(json.dumps(_metadata(tensors.specs)))


def _metadata(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {
        "tree_metadata": {
            str(tuple(name.split("."))): {
                "key_metadata": [{"key": key, "key_type": _KEY_OF_DICTIONARY} for key in name.split(".")],
                "value_metadata": {
                    "value_type": "np.ndarray",
                    "skip_deserialize": False,
                    "write_shape": list(spec.shape),
                },
            }
            for name, spec in specs.items()
        },
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
