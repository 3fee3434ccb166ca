"""The layout of a checkpoint: its literal bytes, tensors, and checksums of tensors, in file order.

A skeleton is a serialised layout. It does not depend on the values of tensors, so it does not change while a model is
trained, and both sides of a merge share it.

Reading a skeleton takes at most 24 times its size in memory, and usually twice, because most of it is literal bytes.
Its size and the number of parameters in the manifest bound the number of segments, and rows are read one at a time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgpack

from git_theta_ext.errors import FormatError
from git_theta_ext.model.fields import CHECKSUM_BYTES, MAX_SKELETON, ChecksumField, Extent, in_file_order
from git_theta_ext.model.rows import RowReader
from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Field

_MAGIC = b"git-theta skeleton 1\n"
_MAX_SEGMENTS = 1 << 24
_LEAST_BYTES = 4  # per segment, on average
_SEGMENTS_EACH = 16  # per parameter: its slice, checksums, and the literals around it


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


Segment = Literal | Slice | Checksum


@dataclass(frozen=True)
class Layout:
    """The ordered segments of a checkpoint.

    Raises:
        FormatError: Two slices have the same name, a checksum has no slice, or there are too many segments.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        names: set[str] = set()
        for segment in self.segments:
            if isinstance(segment, Slice):
                if segment.name in names:
                    raise FormatError(f"parameter {segment.name!r} appears twice")
                names.add(segment.name)
        if len(self.segments) > (most := most_segments(len(names))):
            raise FormatError(f"{len(self.segments)} segments for {len(names)} parameters exceed the limit of {most}")
        for segment in self.segments:
            if isinstance(segment, Checksum) and segment.name not in names:
                raise FormatError(f"a checksum of parameter {segment.name!r}, which is not in the file")

    @cached_property
    def parameters(self) -> dict[str, TensorSpec]:
        """Name and spec of every tensor, in file order."""
        return {segment.name: segment.spec for segment in self.segments if isinstance(segment, Slice)}

    @cached_property
    def nbytes(self) -> int:
        """Size of the checkpoint in bytes."""
        return sum(segment.nbytes for segment in self.segments)

    def located(self) -> Iterator[tuple[int, Segment]]:
        """Yield every segment with its offset in the file."""
        at = 0
        for segment in self.segments:
            yield at, segment
            at += segment.nbytes

    def to_skeleton(self) -> bytes:
        """Return the skeleton. It is canonical: equal layouts give equal bytes.

        Raises:
            FormatError: The skeleton exceeds MAX_SKELETON.
        """
        rows: list[list[Any]] = []
        for segment in self.segments:
            if isinstance(segment, Literal):
                rows.append([segment.data])
            elif isinstance(segment, Slice):
                rows.append([_pack_name(segment.name), segment.spec.dtype.name, list(segment.spec.shape)])
            else:
                rows.append([_pack_name(segment.name), *([segment.seed] if segment.seed else [])])
        skeleton = _MAGIC + bytes(msgpack.packb(rows, use_bin_type=True))
        if len(skeleton) > MAX_SKELETON:
            raise FormatError(f"{len(skeleton)} bytes outside the tensors exceed the limit of {MAX_SKELETON}")
        return skeleton

    @classmethod
    def from_skeleton(cls, skeleton: Buffer, parameters: int | None = None) -> Layout:
        """Read a skeleton.

        Args:
            skeleton: Bytes of the skeleton.
            parameters: Number of parameters in the manifest, which bounds the segments; None if there is no manifest.

        Raises:
            FormatError: The skeleton is damaged, or its version is not supported.
        """
        view = memoryview(skeleton)
        if view[: len(_MAGIC)] != _MAGIC or view.nbytes > MAX_SKELETON:
            raise FormatError("not a skeleton of version 1")
        most = min(_MAX_SEGMENTS if parameters is None else most_segments(parameters), view.nbytes // _LEAST_BYTES + 16)
        try:
            reader = RowReader(view[len(_MAGIC) :])
            segments = tuple(_read_row(row) for row in reader.rows(most))
            reader.end()
        except ValueError as error:
            raise FormatError(f"damaged skeleton: {error}") from error
        return cls(segments)


def most_segments(parameters: int) -> int:
    """Return the limit of segments in a layout with a number of parameters."""
    return min(_MAX_SEGMENTS, _SEGMENTS_EACH * (parameters + 1))


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


def _read_row(row: object) -> Segment:
    match row:
        case [bytes() as data]:
            return Literal(data)
        case [name]:
            return Checksum(_unpack_name(name))
        case [name, int() as seed] if 0 < seed < 1 << 32:
            return Checksum(_unpack_name(name), seed)
        case [name, str() as kind, list() as shape] if all(type(n) is int for n in shape):
            return Slice(_unpack_name(name), TensorSpec.of(kind, shape))
    raise FormatError("damaged skeleton: a segment has an unknown form")


def layout_of(data: Content, fields: Iterable[Field], checksum: Callable[[Extent, int], int]) -> Layout:
    """Return the layout of a file, given its fields. Bytes outside of all fields become literals.

    A checksum field whose value differs from the checksum of its tensor (some writers leave it zero) becomes a literal
    too, so that the file can be restored exactly.

    Args:
        data: The whole file.
        fields: The fields in any order.
        checksum: Returns the CRC-32 of a tensor's bytes, continued from a seed.

    Raises:
        FormatError: See ``in_file_order``; or two tensors have the same name.
    """
    ordered = in_file_order(fields, data.nbytes)
    extents = {field.name: field for field in ordered if isinstance(field, Extent)}
    segments: list[Segment] = []
    at = 0
    for field in ordered:
        if isinstance(field, ChecksumField):
            extent = extents.get(field.name)  # a checksum without a tensor is rejected at the end
            if extent and data[field.offset : field.end] != checksum(extent, field.seed).to_bytes(4, "little"):
                continue
        if field.offset > at:
            segments.append(Literal(bytes(data[at : field.offset])))
        segment = Slice(field.name, field.spec) if isinstance(field, Extent) else Checksum(field.name, field.seed)
        segments.append(segment)
        at = field.end
    if at < data.nbytes:
        segments.append(Literal(bytes(data[at:])))
    return Layout(tuple(segments))
