"""Write an archive of numpy, to the byte as ``numpy.savez`` does."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.conversion.tensors import each

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import IO

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.conversion.tensors import Tensors

_DESCRIPTIONS = {
    "BOOL": "|b1", "I8": "|i1", "U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8", "C128": "<c16",
}  # fmt: skip
_LONGEST = 0xFFFF - len(".npy")
_MOST_DIMENSIONS = 32  # of numpy before version 2


def types() -> Mapping[str, object]:
    """Return the element types that can be written, as numpy describes them."""
    return _DESCRIPTIONS


def refuse(specs: Mapping[str, TensorSpec]) -> None:
    """Refuse what an archive cannot hold.

    Raises:
        FormatError: A name does not come back, or an array has too many dimensions.
    """
    for name, spec in specs.items():
        if not name or "\0" in name or name.endswith(".npy") or len(name.encode(errors="surrogatepass")) > _LONGEST:
            raise FormatError(f"parameter {name[:80]!r} has a name that numpy does not read back from an archive")
        if len(spec.shape) > _MOST_DIMENSIONS:
            raise FormatError(f"parameter {name!r} has {len(spec.shape)} dimensions, more than numpy has")


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:  # noqa: ARG001 - npz has no metadata
    """Write tensors; see ``Target``."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, spec, chunks in each(tensors, list(tensors.specs)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                write_header(file, spec)
                file.writelines(chunks)


def write_header(file: IO[bytes], spec: TensorSpec) -> None:
    """Write what precedes the elements of an array in C order in an ``.npy`` file."""
    from numpy.lib import format as npy

    header = {"descr": _DESCRIPTIONS[spec.dtype.name], "fortran_order": False, "shape": spec.shape}
    npy.write_array_header_1_0(file, header)
