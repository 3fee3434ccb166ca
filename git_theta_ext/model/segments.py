"""The segments of a checkpoint's layout, and how they are written in a skeleton."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack

from git_theta_ext.errors import FormatError
from git_theta_ext.model.fields import CHECKSUM_BYTES
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.records import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes outside the tensors."""

    data: bytes

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Slice:
    """The segment of a tensor."""

    name: str
    spec: TensorSpec

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.spec.nbytes


@dataclass(frozen=True, slots=True)
class Checksum:
    """The segment of a tensor's CRC-32, which is not a literal because it changes with the values.

    ``seed`` is the CRC-32 of the literal bytes before the tensor that the checksum also covers.
    """

    name: str
    seed: int = 0

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return CHECKSUM_BYTES


@dataclass(frozen=True, slots=True)
class RangeChecksum:
    """The segment of the CRC-32 of the bytes from ``start`` up to ``stop`` of the file, which hold several tensors.

    The range contains whole tensors and no checksum. Ranges of different checksums do not overlap.
    """

    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return CHECKSUM_BYTES


Segment = Literal | Slice | Checksum | RangeChecksum


@dataclass(frozen=True, slots=True)
class Packing:
    """How a file with compressed content is made of the content: the name of a container, and what it needs."""

    container: str
    recipe: bytes


def row_of(segment: Segment | Packing) -> list[Any]:
    """Return the row of a segment in a skeleton."""
    match segment:
        case Literal(data):
            return [data]
        case Slice(name, spec):
            return [_pack_name(name), spec.dtype.name, list(spec.shape)]
        case Checksum(name, seed):
            return [_pack_name(name), *([seed] if seed else [])]
        case RangeChecksum(start, stop):
            return [start, stop]
        case Packing(container, recipe):
            return [container, recipe]


def read_row(row: object) -> Segment | Packing:
    """Return the segment of a row.

    Raises:
        FormatError: The row is damaged.
    """
    match row:
        case [name, str() as kind, list() as shape] if {*map(type, shape)} <= {int}:  # most rows are of tensors
            return Slice(_unpack_name(name), TensorSpec.of(kind, shape))
        case [bytes() as data]:
            return Literal(data)
        case [int() as start, int() as stop] if 0 <= start <= stop:
            return RangeChecksum(start, stop)
        case [str() as container, bytes() as recipe]:
            return Packing(container, recipe)
        case [name]:
            return Checksum(_unpack_name(name))
        case [name, int() as seed] if 0 < seed < 1 << 32:
            return Checksum(_unpack_name(name), seed)
    raise FormatError("damaged skeleton: a segment has an unknown form")


def _pack_name(name: str) -> str | msgpack.ExtType:
    # MessagePack text is UTF-8. A name with a lone surrogate, which JSON allows, has an extension type.
    try:
        name.encode()
    except UnicodeEncodeError:
        return msgpack.ExtType(1, name.encode("utf-8", "surrogatepass"))
    return name


def _unpack_name(value: object) -> str:
    if isinstance(value, str):
        return value
    with suppress(UnicodeDecodeError):
        if isinstance(value, msgpack.ExtType) and value.code == 1:
            return str(value.data, "utf-8", "surrogatepass")
    raise FormatError("damaged skeleton: a name is not text")
