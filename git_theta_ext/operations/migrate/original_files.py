"""Write checkpoints that git-theta 0.2.0 committed, in the file formats that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from git_theta_ext.errors import FormatError
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.libraries import require
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from git_theta_ext.operations.migrate.original_arrays import Array

FileKind = Literal["safetensors", "torch", "flax"]

_ENDINGS: dict[str, FileKind] = {".safetensors": "safetensors", ".msgpack": "flax", ".flax": "flax"}
_LIBRARIES = {"safetensors": "safetensors", "torch": "torch", "flax": "msgpack"}
_ARRAY = 1
"""The extension type of MessagePack that flax uses for arrays."""
_LARGEST = 1 << 30
"""Bytes of an array that flax does not split."""


def kind_of(path: str, names: Iterable[tuple[str, ...]], chosen: FileKind | None) -> FileKind:
    """Return in which format to write a checkpoint.

    Git-theta 0.2.0 does not record it. Only its flax checkpoints are nested. There are none of TensorFlow: the plug-in
    for them cannot read the pipe of a filter.

    Args:
        path: Its path in the commits.
        names: The names of its parameters, which are nested.
        chosen: The format that the user wants; by default the nesting and the ending of the path decide.

    Raises:
        FormatError: Parameters would get the same name.
        LibraryError: A library is not installed.
    """
    listed = list(names)
    nested = any(len(parts) > 1 for parts in listed)
    ending = path[path.rfind(".") :]
    kind = chosen or ("flax" if nested else _ENDINGS.get(ending, "torch"))
    if kind != "flax" and len({_joined(parts) for parts in listed}) < len(listed):
        raise FormatError(
            f"{shown_path(path)}: names of nested parameters are the same when they are joined with dots",
            hint="git theta migrate import --include PATTERN --as flax keeps them nested",
        )
    require("tensorstore", "reading git-theta 0.2.0")
    require(_LIBRARIES[kind], f"restoring {shown_path(path)}")
    return kind


def save(values: Mapping[tuple[str, ...], Array], kind: FileKind, file: Path) -> None:
    """Write a checkpoint as git-theta 0.2.0 does. Nested names are joined with dots in a format that has none.

    Raises:
        StoreError: The file cannot be written.
    """
    flat = {_joined(parts): value for parts, value in values.items()}
    with reporting_os_errors(file):
        if kind == "flax":
            file.write_bytes(flax_bytes(values))
        elif kind == "safetensors":
            from safetensors.numpy import save_file

            save_file(flat, file)
        else:
            import torch

            with file.open("wb") as opened:  # given a path, torch writes its name into the file
                torch.save({name: torch.as_tensor(value) for name, value in flat.items()}, opened)


def flax_bytes(values: Mapping[tuple[str, ...], Array]) -> bytes:
    """Return what ``flax.serialization.msgpack_serialize`` makes of nested arrays: jax sorts the names."""
    import msgpack

    tree: dict[str, Any] = {}
    for parts, value in sorted(values.items()):
        inner = tree
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
        inner[parts[-1]] = _flax_array(value) if value.nbytes <= _LARGEST else _flax_parts(value)
    packed: bytes = msgpack.packb(tree, strict_types=True)
    return packed


def _flax_parts(value: Array) -> dict[str, Any]:
    step = _LARGEST // value.dtype.itemsize
    flat = value.reshape(-1)
    parts = (_flax_array(flat[start : start + step]) for start in range(0, flat.size, step))
    shape = {str(number): length for number, length in enumerate(value.shape)}
    numbered = {str(number): part for number, part in enumerate(parts)}
    return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": numbered}


def _flax_array(value: Array) -> Any:
    import msgpack

    return msgpack.ExtType(_ARRAY, msgpack.packb((value.shape, value.dtype.name, value.tobytes("C"))))


def _joined(parts: tuple[str, ...]) -> str:
    return ".".join(parts)
