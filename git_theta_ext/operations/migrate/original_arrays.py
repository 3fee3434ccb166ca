"""Arrays in the objects of git-theta 0.2.0: zarr version 2, as MessagePack, and what they do to a value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from git_theta_ext.operations.migrate.original_metadata import UpdateType

    Array = NDArray[Any]

_KINDS = "biufc"


def read_arrays(data: bytes, most_elements: int) -> dict[str, Array]:
    """Return the arrays of an object by their names.

    Args:
        data: The object.
        most_elements: An array with more elements is refused before it is read.

    Raises:
        FormatError: The object is damaged.
        LibraryError: tensorstore is not installed.
    """
    import msgpack

    require("tensorstore", "reading git-theta 0.2.0")
    try:
        unpacked = msgpack.unpackb(data, raw=False)
        return {str(name): _array(files, most_elements) for name, files in unpacked.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, msgpack.UnpackException) as error:
        raise FormatError(f"a damaged object of git-theta 0.2.0: {error}") from error


def _array(files: Mapping[str, bytes], most_elements: int) -> Array:
    import numpy as np
    import tensorstore

    described = read_json(files[".zarray"].decode())
    shape, chunks, dtype = described["shape"], described["chunks"], np.dtype(described["dtype"])
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, *chunks)) or len(chunks) != len(shape):
        raise ValueError("the shape is not valid")
    # Chunks are padded to their full size in memory.
    if max(math.prod(shape), math.prod(chunks)) > most_elements or dtype.kind not in _KINDS:
        raise ValueError(f"an array {described['dtype']} {shape} is larger than its parameter")
    context = tensorstore.Context()
    store = tensorstore.KvStore.open("memory://", context=context).result()
    for name, content in files.items():
        store[name] = content
    opened = tensorstore.open({"driver": "zarr", "kvstore": "memory://"}, context=context).result()
    array: Array = np.ascontiguousarray(opened.read().result()).reshape(shape)
    return array


def apply_update(kind: UpdateType, arrays: Mapping[str, Array], previous: Array) -> Array:
    """Return the value after an update, computed as git-theta 0.2.0 does.

    Args:
        kind: Kind of the update.
        arrays: The object of the update.
        previous: The value before.

    Raises:
        FormatError: The arrays do not fit the value.
    """
    try:
        if kind == "sparse":
            return _sparse(arrays["data"], arrays["indices"], arrays["indptr"], arrays["shape"], previous)
        if kind == "ia3":
            return _checked(previous * arrays["ia3"], previous)
        if "parameter" in arrays:  # low rank, of a vector
            return _checked(arrays["parameter"] + previous, previous)
        return _checked(arrays["R"] @ arrays["C"] + previous, previous)
    except (KeyError, ValueError, IndexError) as error:
        raise FormatError(f"an update of kind {kind} does not fit its parameter: {error}") from error


def _sparse(data: Array, indices: Array, indptr: Array, shape: Array, previous: Array) -> Array:
    import numpy as np

    if tuple(shape.tolist()) != previous.shape or indptr.tolist() != [0, data.size] or indices.shape != data.shape:
        raise ValueError(f"shape {shape.tolist()} instead of {list(previous.shape)}")
    if indices.size and not 0 <= indices.min() <= indices.max() < previous.size:
        raise ValueError("an index is outside")
    change = np.zeros(previous.size, data.dtype)
    np.add.at(change, indices, data)
    return change.reshape(previous.shape) + previous


def _checked(value: Array, previous: Array) -> Array:
    if value.shape != previous.shape:
        raise ValueError(f"shape {list(value.shape)} instead of {list(previous.shape)}")
    return value
