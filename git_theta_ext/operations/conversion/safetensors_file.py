"""Write a file of safetensors, to the byte as the library of safetensors 0.8 does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.conversion.tensors import each

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.tensors import Tensors

_METADATA = "__metadata__"
_MAX_HEADER = 100_000_000
# The library writes tensors in this order of their types, so that each is aligned, and by name within a type.
_ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ",
    "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL",
)  # fmt: skip


def types() -> Mapping[str, object]:
    """Return the element types that can be written, with their ranks."""
    return {name: rank for rank, name in enumerate(_ORDER)}


def refuse(specs: Mapping[str, TensorSpec]) -> None:
    """Refuse what a header cannot hold.

    Raises:
        FormatError: A name is reserved, or the header is too long.
    """
    if _METADATA in specs:
        raise FormatError(f"parameter {_METADATA!r} has a name that safetensors reserves")
    if len(header(specs, {})) > _MAX_HEADER:
        raise FormatError(f"the header of {len(specs)} parameters exceeds the limit of {_MAX_HEADER} bytes")


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write tensors; see ``Target``."""
    with path.open("wb") as file:
        file.write(header(tensors.specs, metadata))
        for _, _, chunks in each(tensors, _ordered(tensors.specs)):
            file.writelines(chunks)


def _ordered(specs: Mapping[str, TensorSpec]) -> list[str]:
    # The library compares UTF-8, whose order is that of code points.
    return sorted(specs, key=lambda name: (_ORDER.index(specs[name].dtype.name), name))


def header(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """Return what a file of some tensors begins with."""
    entries: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name in _ordered(specs):
        spec = specs[name]
        entries[name] = {
            "dtype": spec.dtype.name,
            "shape": list(spec.shape),
            "data_offsets": [at, at + spec.nbytes],
        }
        at += spec.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
