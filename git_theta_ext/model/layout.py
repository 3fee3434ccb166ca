"""What a checkpoint is made of: literal bytes, tensors, and checksums of tensors, in file order.

A skeleton is a layout in bytes. It says nothing about the tensors' values, so it stays the same while a model is
trained on, and both sides of a merge share it.

Reading a skeleton takes at most 24 times its size in memory, and twice if it is mostly literal bytes, as it should be:
its size and the number of its manifest's parameters bound the segments, and rows are read one at a time.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgpack

from git_theta_ext.errors import FormatError
from git_theta_ext.model.rows import RowReader
from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from git_theta_ext.model.content import Content

MAX_SKELETON = 1 << 28
"""The most bytes that a skeleton may have; a file with more bytes outside its tensors is opaque."""

_MAGIC = b"git-theta skeleton 1\n"
_MAX_SEGMENTS = 1 << 24
_LEAST_BYTES = 4  # of a segment, on average
_SEGMENTS_EACH = 16  # a parameter: its slice, and checksums and literal bytes around it
_CHECKSUM_BYTES = 4
_SPLIT_CHARACTER = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a format found a tensor in a file, contiguous and little-endian.

    Raises:
        FormatError: The name holds the two halves of a character, which JSON cannot tell from the character.
    """

    name: str
    spec: TensorSpec
    offset: int

    def __post_init__(self) -> None:
        if _SPLIT_CHARACTER.search(self.name):
            raise FormatError(f"parameter {self.name!r} has a name that cannot be written down")

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.spec.nbytes


@dataclass(frozen=True, slots=True)
class ChecksumField:
    """Where a format found the CRC-32 (zlib's, little-endian) of a tensor's bytes.

    ``seed`` is the CRC-32 of the literal bytes that the checksum covers before the tensor's, such as a header.
    """

    name: str
    offset: int
    seed: int = 0

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + _CHECKSUM_BYTES


Field = Extent | ChecksumField


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that no tensor covers."""

    data: bytes

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Slice:
    """The place of one tensor."""

    name: str
    spec: TensorSpec

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.spec.nbytes


@dataclass(frozen=True, slots=True)
class Checksum:
    """The place of a tensor's CRC-32; kept apart from literals since it changes with every value.

    ``seed`` is the initial value of the CRC-32: that of the literal bytes before the tensor that it covers.
    """

    name: str
    seed: int = 0

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return _CHECKSUM_BYTES


Segment = Literal | Slice | Checksum


@dataclass(frozen=True)
class Layout:
    """The ordered segments of a checkpoint.

    Raises:
        FormatError: Two slices share a name, a checksum is of a tensor without a slice, or there are too many segments.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        known: set[str] = set()
        for segment in self.segments:
            if isinstance(segment, Slice):
                if segment.name in known:
                    raise FormatError(f"parameter {segment.name!r} appears twice")
                known.add(segment.name)
        if len(self.segments) > (most := most_segments(len(known))):
            raise FormatError(
                f"{len(self.segments)} segments for {len(known)} parameters, more than the limit of {most}"
            )
        for segment in self.segments:
            if isinstance(segment, Checksum) and segment.name not in known:
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
        """Write the skeleton: canonical, equal layouts give equal bytes.

        Raises:
            FormatError: It would be larger than MAX_SKELETON.
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
            raise FormatError(f"{len(skeleton)} bytes outside the tensors; {MAX_SKELETON} are the most")
        return skeleton

    @classmethod
    def from_skeleton(cls, skeleton: Buffer, parameters: int | None = None) -> Layout:
        """Read a skeleton.

        Args:
            skeleton: Its bytes.
            parameters: How many its manifest names, which bounds the segments; None if there is no manifest.

        Raises:
            FormatError: It is damaged or of an unknown version.
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
    """Return the most segments that a layout of so many parameters may have."""
    return min(_MAX_SEGMENTS, _SEGMENTS_EACH * (parameters + 1))


def _pack_name(name: str) -> str | msgpack.ExtType:
    # MessagePack text is UTF-8; a name with a lone surrogate (legal in JSON) is stored next to it.
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
    raise FormatError("damaged skeleton: a segment of unknown form")


def in_file_order(fields: Iterable[Field], nbytes: int) -> list[Field]:
    """Return what a format found in a file of some size, checked, in the order of their places.

    Raises:
        FormatError: A field leaves the file or overlaps another; the message names the parameter.
    """
    found = sorted(fields, key=lambda field: (field.offset, field.end))
    outside = nbytes - sum(field.spec.nbytes for field in found if isinstance(field, Extent))
    if outside > MAX_SKELETON:
        raise FormatError(f"{outside} bytes outside the tensors; {MAX_SKELETON} are the most")
    at = 0
    for field in found:
        if not 0 <= field.offset <= field.end <= nbytes:
            place = f"at bytes {field.offset} to {field.end}, outside the {nbytes} of the file"
            raise FormatError(f"parameter {field.name!r} is {place}")
        if field.offset < at:
            raise FormatError(f"parameter {field.name!r} at byte {field.offset} overlaps the one before it")
        at = field.end
    return found


def layout_of(data: Content, fields: Iterable[Field], checksum: Callable[[Extent, int], int]) -> Layout:
    """Lay out a file from what its format found in it; whatever no field covers becomes literal.

    A checksum field that does not hold its tensor's checksum (a writer may leave it zero) becomes literal as well, so
    that the file always comes back as it was.

    Args:
        data: The whole file.
        fields: In any order.
        checksum: CRC-32 of a tensor's bytes, begun from a value.

    Raises:
        FormatError: As ``in_file_order``, or two tensors share a name.
    """
    found = in_file_order(fields, data.nbytes)
    extents = {field.name: field for field in found if isinstance(field, Extent)}
    segments: list[Segment] = []
    at = 0
    for field in found:
        if isinstance(field, ChecksumField):
            extent = extents.get(field.name)  # what has none is refused at the end
            if extent and data[field.offset : field.end] != checksum(extent, field.seed).to_bytes(4, "little"):
                continue
        if field.offset > at:
            segments.append(Literal(bytes(data[at : field.offset])))
        place = Slice(field.name, field.spec) if isinstance(field, Extent) else Checksum(field.name, field.seed)
        segments.append(place)
        at = field.end
    if at < data.nbytes:
        segments.append(Literal(bytes(data[at:])))
    return Layout(tuple(segments))
