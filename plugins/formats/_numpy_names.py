"""Element types by the names that numpy and ml_dtypes give them."""

from __future__ import annotations

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_BYTES, TensorSpec, dtype, opaque

_DTYPES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip


def spec_of(name: str, shape: tuple[int, ...], nbytes: int) -> TensorSpec:
    """Return the spec of an array of a type, whose width follows from the size in bytes if the name is unknown.

    Raises:
        FormatError: The size does not fit the shape, or there is no element type of that name and width.
    """
    if name in _DTYPES:
        spec = TensorSpec(dtype(_DTYPES[name]), shape)
    else:
        elements = TensorSpec(dtype("U8"), shape).elements
        width, rest = divmod(nbytes, elements) if elements else (1, 0)
        if rest or not 0 < width <= MAX_BYTES:
            raise FormatError(f"{nbytes} bytes for {elements} elements of {name[:64]!r}")
        spec = TensorSpec(opaque(8 * width, name), shape)
    if spec.nbytes != nbytes:
        raise FormatError(f"{spec} has {spec.nbytes} bytes, but {nbytes} are in the file")
    return spec
