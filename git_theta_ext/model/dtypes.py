"""The element types of tensors: the width of an element, its meaning, and whether it allows arithmetic."""

from __future__ import annotations

import re
from typing import Literal

from git_theta_ext.errors import FormatError
from git_theta_ext.records import dataclass

Kind = Literal["float", "complex", "int", "uint", "bool", "opaque"]

_OPAQUE = re.compile(r"opaque([1-9][0-9]{0,5})(?::[A-Za-z0-9_.+<>|=-]{1,64})?")


@dataclass(frozen=True, slots=True)
class Dtype:
    """An element type.

    Attributes:
        name: Name in manifests: the safetensors name if there is one.
        bits: Width of one element in bits; not always a multiple of eight.
        kind: Meaning of the bits; of ``opaque`` elements only the width is known.
        arithmetic: Whether the mean of two values is meaningful.
        exponent: Exponent bits of a float, zero for everything else.
        mantissa: Explicit mantissa bits of a float, zero for everything else.
    """

    name: str
    bits: int
    kind: Kind
    arithmetic: bool = False
    exponent: int = 0
    mantissa: int = 0

    def __hash__(self) -> int:
        """Return the hash of the name, which no other type has."""
        return hash(self.name)

    def __reduce__(self) -> tuple[object, ...]:
        """Come back from another process as the same object: a skeleton is known by its pseudo-type."""
        return _named, (self.name,)


def _float(name: str, exponent: int, mantissa: int, *, bits: int = 0, arithmetic: bool = True) -> Dtype:
    return Dtype(name, bits or 1 + exponent + mantissa, "float", arithmetic, exponent, mantissa)


# Names and widths follow safetensors 0.8 (https://docs.rs/safetensors); the last group is specific to torch and numpy.
_TABLE = {
    dtype.name: dtype
    for dtype in (
        Dtype("BOOL", 8, "bool"),
        Dtype("U8", 8, "uint"),
        Dtype("I8", 8, "int"),
        Dtype("U16", 16, "uint"),
        Dtype("I16", 16, "int"),
        Dtype("U32", 32, "uint"),
        Dtype("I32", 32, "int"),
        Dtype("U64", 64, "uint"),
        Dtype("I64", 64, "int"),
        _float("F16", 5, 10),
        _float("BF16", 8, 7),
        _float("F32", 8, 23),
        _float("F64", 11, 52),
        _float("F8_E4M3", 4, 3),
        _float("F8_E5M2", 5, 2),
        # A power of two that scales a block: the mean of two of them is not the scale of the mean.
        _float("F8_E8M0", 8, 0, bits=8, arithmetic=False),
        # Two elements share a byte, and they are only meaningful with their block scales.
        _float("F4", 2, 1, arithmetic=False),
        _float("F6_E2M3", 2, 3, arithmetic=False),
        _float("F6_E3M2", 3, 2, arithmetic=False),
        Dtype("C64", 64, "complex", arithmetic=True),
        Dtype("C128", 128, "complex", arithmetic=True),
        _float("F8_E4M3FNUZ", 4, 3),
        _float("F8_E5M2FNUZ", 5, 2),
    )
}

SKELETON = Dtype("skeleton", 8, "opaque")
"""The pseudo-type under which a skeleton is stored; no tensor may have it."""


def _named(name: str) -> Dtype:
    return SKELETON if name == SKELETON.name else dtype(name)


def dtype(name: str) -> Dtype:
    """Look up an element type by its name in manifests.

    In addition to the table, ``opaque<bits>`` and ``opaque<bits>:<label>`` name element types of which only the width
    is known, for example ``opaque272:Q8_0`` for the 34-byte blocks of a quantised tensor.

    Raises:
        FormatError: The name is neither in the table nor that of an opaque type.
    """
    entry = _TABLE.get(name)
    if entry is not None:
        return entry
    match = _OPAQUE.fullmatch(name)
    if match is None:
        raise FormatError(f"unknown element type {name[:80]!r}")
    return Dtype(name, int(match[1]), "opaque")


def opaque(bits: int, label: str = "") -> Dtype:
    """Return an element type of which only the width in bits is known.

    Raises:
        FormatError: The width or the label cannot be written in a manifest.
    """
    return dtype(f"opaque{bits}:{label}" if label else f"opaque{bits}")
