"""The layout of a checkpoint: its literal bytes, tensors and checksums, in file order.

A skeleton is a serialised layout. It does not depend on the values of tensors, so it does not change while a model is
trained, and both sides of a merge share it.

Reading a skeleton takes at most 24 times its size in memory, and usually twice, because most of it is literal bytes.
Its size and the number of parameters in the manifest bound the number of segments, and rows are read one at a time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, cast

import msgpack

from git_theta_ext.errors import FormatError
from git_theta_ext.model.field_checksums import check_disjoint, right_checksums
from git_theta_ext.model.fields import MAX_SKELETON, Extent, RangeChecksumField, in_file_order
from git_theta_ext.model.rows import RowReader
from git_theta_ext.model.segments import Checksum, Literal, Packing, RangeChecksum, Segment, Slice, read_row, row_of
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Field
    from git_theta_ext.model.tensor import TensorSpec

__all__ = [
    "Checksum",
    "Layout",
    "Literal",
    "Packing",
    "RangeChecksum",
    "Segment",
    "Slice",
    "layout_of",
    "most_segments",
]

_MAGIC = b"git-theta skeleton "
_HEAD = len(_MAGIC) + 2
_RANGES, _NEWEST = 2, 3
"""The versions of skeletons with checksums of ranges, and of those of packed files; all others have version 1."""
_MOST_PACKINGS = 4
_MAX_SEGMENTS = 1 << 24
_LEAST_BYTES = 4  # per segment, on average
_SEGMENTS_EACH = 16  # per parameter: its slice, checksums, and the literals around it


@dataclass(frozen=True)
class Layout:
    """The ordered segments of a checkpoint.

    Attributes:
        segments: The segments of the file, or of its content if the file has to be packed.
        packings: How the file is made of the content, the last first; mostly none.

    Raises:
        FormatError: Two slices have the same name, a checksum has no slice or cuts one, or there are too many segments.
    """

    segments: tuple[Segment, ...]
    packings: tuple[Packing, ...] = ()

    def __post_init__(self) -> None:
        names: set[str] = set()
        for segment in self.segments:
            if isinstance(segment, Slice):
                if segment.name in names:
                    raise FormatError(f"parameter {segment.name!r} appears twice")
                names.add(segment.name)
        if len(self.segments) > (most := most_segments(len(names))):
            raise FormatError(f"{len(self.segments)} segments for {len(names)} parameters exceed the limit of {most}")
        if not self.has_checksums:
            return
        for segment in self.segments:
            if isinstance(segment, Checksum) and segment.name not in names:
                raise FormatError(f"a checksum of parameter {segment.name!r}, which is not in the file")
        if self.ranges:
            self._check_ranges()

    @cached_property
    def has_checksums(self) -> bool:
        """Whether there are any checksums."""
        return not {*map(type, self.segments)}.isdisjoint((Checksum, RangeChecksum))

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The start and end of each range of the file that has a checksum, in order."""
        if not self.has_checksums:
            return ()
        ranges = ((part.start, part.stop) for part in self.segments if isinstance(part, RangeChecksum))
        return tuple(check_disjoint(ranges))

    @property
    def _version(self) -> int:
        return _NEWEST if self.packings else _RANGES if self.ranges else 1

    def _check_ranges(self) -> None:
        located = list(self.located())
        starts = [at for at, _ in located]
        for start, stop in self.ranges:
            if not 0 <= start <= stop <= self.nbytes:
                raise FormatError(f"the checksum of bytes {start} to {stop} is of a range outside the file")
            for at, part in located[max(0, bisect_right(starts, start) - 1) : bisect_left(starts, stop)]:
                whole = isinstance(part, Slice) and start <= at and at + part.nbytes <= stop
                if at + part.nbytes > start and not whole and not isinstance(part, Literal):
                    raise FormatError(f"the checksum of bytes {start} to {stop} is of a part of what is at byte {at}")

    @cached_property
    def parameters(self) -> dict[str, TensorSpec]:
        """Name and spec of every tensor, in file order."""
        return {segment.name: segment.spec for segment in self.segments if isinstance(segment, Slice)}

    @cached_property
    def nbytes(self) -> int:
        """Size in bytes of the checkpoint, or of its content if it has to be packed."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self) -> list[int]:
        return [part.spec.nbytes if isinstance(part, Slice) else part.nbytes for part in self.segments]

    def located(self) -> Iterator[tuple[int, Segment]]:
        """Return every segment with its offset in the file."""
        return zip(accumulate(self._sizes, initial=0), self.segments, strict=False)

    def to_skeleton(self) -> bytes:
        """Return the skeleton. It is canonical: equal layouts give equal bytes.

        Raises:
            FormatError: The skeleton exceeds MAX_SKELETON.
        """
        rows = [row_of(part) for part in (*self.packings, *self.segments)]
        skeleton = _MAGIC + b"%d\n" % self._version + bytes(msgpack.packb(rows, use_bin_type=True))
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
        version = _version(view)
        most = min(_MAX_SEGMENTS if parameters is None else most_segments(parameters), view.nbytes // _LEAST_BYTES + 16)
        try:
            reader = RowReader(view[_HEAD:])
            rows = [read_row(row) for row in reader.rows(most + (_MOST_PACKINGS if version == _NEWEST else 0))]
            reader.end()
        except ValueError as error:
            raise FormatError(f"damaged skeleton: {error}") from error
        packings = tuple(takewhile(lambda row: isinstance(row, Packing), rows[:_MOST_PACKINGS]))
        segments = tuple(rows[len(packings) :])
        if Packing in {*map(type, segments)}:
            raise FormatError("damaged skeleton: packings are not at the beginning")
        layout = cls(cast("tuple[Segment, ...]", segments), cast("tuple[Packing, ...]", packings))
        if version != layout._version:
            raise FormatError(f"damaged skeleton: its segments are not those of version {version}")
        return layout


def most_segments(parameters: int) -> int:
    """Return the limit of segments in a layout with a number of parameters."""
    return min(_MAX_SEGMENTS, _SEGMENTS_EACH * (parameters + 1))


def _version(view: memoryview) -> int:
    head = bytes(view[:_HEAD])
    if not head.startswith(_MAGIC) or not head.endswith(b"\n") or view.nbytes > MAX_SKELETON:
        raise FormatError("not a skeleton")
    version = head[len(_MAGIC)] - ord("0")
    if not 1 <= version <= _NEWEST:
        from git_theta_ext.util.installer import upgrade_command  # filters start without it

        raise FormatError(
            f"skeleton version {version} is not supported, only 1 to {_NEWEST}",
            hint=upgrade_command(),
        )
    return version


def layout_of(data: Content, fields: Iterable[Field], checksum: Callable[[Extent, int], int]) -> Layout:
    """Return the layout of a file, given its fields. Bytes outside of all fields become literals.

    A checksum field whose value is not the checksum (some writers leave it zero) becomes a literal too, so that the
    file can be restored exactly.

    Args:
        data: The whole file.
        fields: The fields in any order.
        checksum: Returns the CRC-32 of a tensor's bytes, continued from a seed.

    Raises:
        FormatError: See ``in_file_order`` and ``Layout``.
    """
    ordered = in_file_order(fields, data.nbytes)
    right = right_checksums(data, ordered, checksum)
    segments: list[Segment] = []
    at = 0
    for field in ordered:
        if not isinstance(field, Extent) and field.offset not in right:
            continue
        if field.offset > at:
            segments.append(Literal(bytes(data[at : field.offset])))
        segments.append(_segment(field))
        at = field.end
    if at < data.nbytes:
        segments.append(Literal(bytes(data[at:])))
    return Layout(tuple(segments))


def _segment(field: Field) -> Segment:
    if isinstance(field, Extent):
        return Slice(field.name, field.spec)
    if isinstance(field, RangeChecksumField):
        return RangeChecksum(field.start, field.stop)
    return Checksum(field.name, field.seed)
