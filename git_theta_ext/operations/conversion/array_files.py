"""Write arrays through tensorstore, in chunks whose elements come one after another."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.conversion.array_blocks import block_shape, blocks
from git_theta_ext.operations.conversion.arrays import BLOCK_BYTES, ELEMENT_TYPES
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.model.tensor import TensorSpec

_LONGEST = 255
_MOST_DIMENSIONS = 32
_PENDING = 4
_COMPRESSION: Mapping[int, Mapping[str, Any]] = {
    2: {"compressor": {"id": "zstd", "level": 1}},
    3: {
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
        ]
    },
}


def types() -> Mapping[str, str]:
    """Return the element types that can be written, with tensorstore's names.

    Raises:
        LibraryError: tensorstore is not installed.
    """
    require("tensorstore", "writing zarr and Orbax")
    return ELEMENT_TYPES


def refuse_shapes(specs: Mapping[str, TensorSpec]) -> None:
    """Refuse arrays that tensorstore cannot hold.

    Raises:
        FormatError: An array has too many dimensions.
    """
    for name, spec in specs.items():
        if len(spec.shape) > _MOST_DIMENSIONS:
            raise FormatError(f"parameter {name!r} has {len(spec.shape)} dimensions, more than tensorstore has")


def refuse_path(name: str) -> None:
    """Refuse a name that is no path of a file below a directory.

    Raises:
        FormatError: The name cannot be one.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > _LONGEST for part in parts) or "\0" in name:
        raise FormatError(f"parameter {name[:80]!r} has a name that cannot be the path of a file")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"parameter {name!r} has a name that is not Unicode") from error


def write_array(
    store: Mapping[str, Any], version: int, spec: TensorSpec, chunks: Iterator[memoryview], transaction: Any = None
) -> None:
    """Write an array.

    Args:
        store: Where, as tensorstore's specification of a key-value store.
        version: Of zarr.
        spec: Element type and shape.
        chunks: Its bytes.
        transaction: A transaction of tensorstore that the array is part of; None to write it at once.
    """
    import numpy as np
    import tensorstore

    kind = tensorstore.dtype(ELEMENT_TYPES[spec.dtype.name])
    sizes = block_shape(spec.shape, spec.dtype.bits // 8, BLOCK_BYTES)
    array = tensorstore.open(
        {
            "driver": "zarr" if version == 2 else "zarr3",  # noqa: PLR2004 - of zarr
            "kvstore": dict(store),
            "metadata": _COMPRESSION[version],
            "store_data_equal_to_fill_value": True,  # else -0.0 would become 0.0
        },
        create=True,
        dtype=kind,
        shape=spec.shape,
        chunk_layout=tensorstore.ChunkLayout(chunk_shape=sizes),
        transaction=transaction,
        context=tensorstore.Context(),
    ).result()
    pending: deque[Any] = deque()
    rest = bytearray()
    for block in blocks(spec.shape, sizes):
        shape = tuple(part.stop - part.start for part in block)
        nbytes = int(np.prod(shape, dtype=np.int64)) * spec.dtype.bits // 8
        while len(rest) < nbytes:
            rest += next(chunks)
        values = np.frombuffer(bytes(rest[:nbytes]), kind.numpy_dtype).reshape(shape)
        del rest[:nbytes]
        pending.append(array[block].write(values))
        if len(pending) > _PENDING:
            pending.popleft().result()
    for _ in chunks:
        raise AssertionError("bytes are left over")  # pragma: no cover
    for future in pending:
        future.result()
