"""Read the arrays of a directory of zarr or Orbax through tensorstore, block by block."""

from __future__ import annotations

import posixpath
import tempfile
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.conversion.array_blocks import block_shape, blocks, touched
from git_theta_ext.operations.conversion.array_directory import bounded_object
from git_theta_ext.operations.conversion.tensors import chosen
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.libraries import require
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.operations.conversion.array_blocks import Block
    from git_theta_ext.operations.conversion.array_directory import ArrayDirectory

ELEMENT_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "C64": "complex64", "C128": "complex128",
}  # fmt: skip
"""Element type to tensorstore's name of it."""

BLOCK_BYTES = 1 << 24
_MOST_CACHED = 1 << 28
"""The most bytes of chunks that are kept while blocks are read from them."""
_SMALL = 1 << 26
"""Bytes that a chunk may always have."""
_MOST_SPARSE = 1 << 30
"""Bytes that arrays may always have."""
_MOST_TIMES = 1 << 10
"""The limit of how many times larger chunks and arrays are than the directory that they are compressed in."""
_OPENED = 64
_CHOOSE = "choose other arrays with git theta import --param GLOB SOURCE FILE"


@dataclass(frozen=True)
class StoredArray:
    """An array in a directory, as its metadata describe it.

    Attributes:
        path: Its path in the directory or database.
        driver: tensorstore's name of its format.
        spec: Element type and shape.
        chunk: Shape of the pieces that it is compressed in.
    """

    path: str
    driver: str
    spec: TensorSpec
    chunk: tuple[int, ...]


@dataclass(frozen=True)
class Arrays:
    """Arrays of a directory, read as ``Tensors``.

    Attributes:
        directory: The directory.
        arrays: The arrays by name.
        scratch: A directory for temporary files.
        advance: Called with the number of bytes that were read since the last call.
    """

    directory: ArrayDirectory
    arrays: Mapping[str, StoredArray]
    scratch: Path
    advance: Callable[[int], None] = no_progress

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Element type and shape of each array, by name."""
        return {name: array.spec for name, array in self.arrays.items()}

    def counted(self, advance: Callable[[int], None]) -> Arrays:
        """Return the same arrays, which call a function with the number of bytes that were read since the last call."""
        return replace(self, advance=advance)

    def streams(self, names: Sequence[str]) -> Iterator[Iterator[memoryview]]:
        """Yield each array's bytes; see ``Tensors``.

        Raises:
            FormatError: An array is damaged; the message names it.
        """
        for name in names:
            yield self._stream(name, self.arrays[name])

    def _stream(self, name: str, array: StoredArray) -> Iterator[memoryview]:
        shape, itemsize = array.spec.shape, array.spec.dtype.bits // 8
        sizes = block_shape(shape, itemsize, BLOCK_BYTES, array.chunk)
        cached = itemsize * touched(shape, sizes, array.chunk)
        specification = _specification(self.directory, array.path, array.driver)
        try:
            if cached <= _MOST_CACHED:
                pieces = _in_order(_opened(specification, cached).result(), blocks(shape, sizes))
            else:
                pieces = self._through_file(_opened(specification).result(), array)
            for data in pieces:
                self.advance(data.nbytes)
                yield data
        except (ValueError, NotImplementedError) as error:
            raise _damaged(name, error) from error

    def _through_file(self, opened: Any, array: StoredArray) -> Iterator[memoryview]:
        """Read an array chunk by chunk if no few of them hold elements that follow each other."""
        import numpy as np

        shape = array.spec.shape
        with tempfile.TemporaryFile(dir=self.scratch) as file:
            file.truncate(array.spec.nbytes)
            whole = np.memmap(file, opened.dtype.numpy_dtype, "r+", shape=shape)
            for block in blocks(shape, array.chunk):
                whole[block] = opened[block].read().result()
            flat = whole.reshape(-1).view(np.uint8)
            for start in range(0, flat.size, BLOCK_BYTES):
                yield flat[start : start + BLOCK_BYTES].data


def open_arrays(directory: ArrayDirectory, scratch: Path, patterns: Sequence[str] = (), *, hint: str) -> Arrays:
    """Read the metadata of arrays in a directory.

    Args:
        directory: The directory.
        scratch: A directory for temporary files.
        patterns: Names or globs of the arrays that are wanted; none for all.
        hint: The command that lists the arrays.

    Raises:
        FormatError: An array is damaged, or has an element type that checkpoints do not have; or two arrays have the
            same name, or all are too large for the directory.
        UsageError: A pattern matches no array.
        LibraryError: tensorstore is not installed.
    """
    require("tensorstore", "reading zarr and Orbax")
    places: dict[str, tuple[str, str]] = {}
    for path, driver in sorted(_paths(directory)):
        name = path if directory.orbax else path.replace("/", ".") or "array"
        if name in places:
            raise FormatError(f"the arrays {places[name][0]!r} and {path!r} would both be the parameter {name!r}")
        places[name] = (path, driver)
    if not places:
        raise FormatError(f"{directory.path} has no arrays")
    absent = sorted(directory.expected() - places.keys())
    names = chosen([*places, *absent], patterns, place=str(directory.path), hint=hint)
    for name in absent:
        if name in names:
            raise FormatError(f"array {name!r} is in Orbax's metadata, but not in the checkpoint")
    opened = _each_opened(directory, {name: places[name] for name in names})
    arrays = {name: _described(directory, name, *places[name], array) for name, array in opened}
    total = sum(array.spec.nbytes for array in arrays.values())
    if total > max(_MOST_SPARSE, directory.nbytes * _MOST_TIMES):
        raise FormatError(
            f"the arrays have {total} bytes, and the directory {directory.nbytes}: it may be damaged",
            hint=_CHOOSE,
        )
    return Arrays(directory, arrays, scratch)


def _in_order(opened: Any, parts: Iterable[Block]) -> Iterator[memoryview]:
    """Yield the blocks of an array; the next one is read meanwhile."""
    import numpy as np

    ahead = None
    for part in (*parts, None):
        following = None if part is None else opened[part].read(order="C")
        if ahead is not None:
            yield np.ascontiguousarray(ahead.result()).reshape(-1).view(np.uint8).data
        ahead = following


def _paths(directory: ArrayDirectory) -> Iterator[tuple[str, str]]:
    """Yield the path and the driver of each array."""
    import tensorstore

    files: Iterable[str] = directory.files
    store = tensorstore.KvStore.open(_store_of(directory, ""), context=tensorstore.Context()).result()
    if directory.database:
        try:
            files = [key.decode() for key in store.list().result()]
        except ValueError as error:
            raise FormatError(f"{directory.path} is damaged: {error}") from error
    for file in files:
        folder, name = posixpath.split(file)
        if name == ".zarray":
            yield folder, "zarr"
        elif name == "zarr.json":
            value = bounded_object(bytes(store.read(file.encode()).result().value), file)
            if value.get("node_type") == "array":
                yield folder, "zarr3"


def _each_opened(directory: ArrayDirectory, places: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    names = list(places)
    for start in range(0, len(names), _OPENED):
        some = names[start : start + _OPENED]
        for name, future in [(name, _opened(_specification(directory, *places[name]))) for name in some]:
            error = future.exception()
            if error is not None:
                raise _damaged(name, error) from error
            yield name, future.result()


def _opened(specification: Mapping[str, Any], cached: int = 0) -> Any:
    import tensorstore

    limit = {"cache_pool": {"total_bytes_limit": cached + cached // 4}}
    context = tensorstore.Context(limit if cached else {})
    return tensorstore.open(dict(specification), read=True, write=False, context=context)


def _specification(directory: ArrayDirectory, path: str, driver: str) -> dict[str, Any]:
    return {"driver": driver, "kvstore": _store_of(directory, path), "recheck_cached_data": False}


def _store_of(directory: ArrayDirectory, path: str) -> dict[str, Any]:
    """Describe where an array is. The driver refuses names with ``..`` in files, and databases have no other place."""
    inside = f"{path}/" if path else ""
    if directory.database:
        return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory.path}/"}, "path": inside}
    return {"driver": "file", "path": f"{directory.path}/{inside}"}


def _described(directory: ArrayDirectory, name: str, path: str, driver: str, opened: Any) -> StoredArray:
    kinds = {name: kind for kind, name in ELEMENT_TYPES.items()}
    kind = opened.dtype.name
    if kind not in kinds:
        raise FormatError(
            f"array {name!r} has elements of the type {kind}, which checkpoints do not have", hint=_CHOOSE
        )
    try:
        spec = TensorSpec(dtype(kinds[kind]), tuple(opened.shape))
        chunk = TensorSpec(spec.dtype, tuple(opened.chunk_layout.read_chunk.shape or spec.shape))
    except FormatError as error:
        raise FormatError(f"array {name!r}: {error.message}", hint=_CHOOSE) from error
    if chunk.nbytes > max(_SMALL, spec.nbytes, directory.nbytes * _MOST_TIMES):
        raise FormatError(
            f"array {name!r} has chunks of {chunk.nbytes} bytes in a directory of {directory.nbytes}", hint=_CHOOSE
        )
    return StoredArray(path, driver, spec, tuple(max(1, min(n)) for n in zip(spec.shape, chunk.shape, strict=True)))


def _damaged(name: str, error: BaseException) -> FormatError:
    reason = str(error).partition("\n")[0].partition(" [tensorstore_spec=")[0]
    return FormatError(f"array {name!r} cannot be read: {reason}", hint=_CHOOSE)
