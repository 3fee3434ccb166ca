"""Find the checkpoints among the files of an archive, and their facts."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import (
    ChecksumField,
    Extent,
    Layout,
    Literal,
    NotedFields,
    NotSplittable,
    Part,
    RangeChecksumField,
    TensorSpec,
    moved,
)

from ._literal_content import LiteralContent
from ._names import FreeNames
from .gguf import FORMAT as GGUF
from .hdf5 import FORMAT as HDF5
from .npz import FORMAT as NPZ
from .onnx import FORMAT as ONNX
from .pickle import FORMAT as PICKLE
from .safetensors import FORMAT as SAFETENSORS
from .torch_legacy import FORMAT as TORCH_LEGACY
from .torch_zip import FORMAT as TORCH_ZIP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.interfaces import Content, Field, Format, Segment

SMALL = 4096
"""The most bytes of a file that is literal."""
_INSIDE: tuple[Format, ...] = (SAFETENSORS, TORCH_ZIP, TORCH_LEGACY, GGUF, HDF5, NPZ, PICKLE, ONNX)


class NestedFile(NamedTuple):
    """A file in an archive.

    Attributes:
        name: Its name.
        start: Offset of its first byte.
        size: Size in bytes.
        checksums: Offsets of its CRC-32 in the archive.
    """

    name: str
    start: int
    size: int
    checksums: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.start + self.size


def nested_fields(data: Content, files: Iterable[NestedFile], archive: str) -> NotedFields:
    """Find the tensors in the files of an archive.

    If there are several checkpoints, each has its name before those of its tensors. Any other file of some size is one
    tensor of bytes.

    Args:
        data: The archive.
        files: Its files.
        archive: What it is, for messages.

    Raises:
        NotSplittable: No file is a checkpoint that can be split, or one has checksums inside and its own, too.
    """
    damaged: list[str] = []
    found = [(file, _fields(Part(data, file.start, file.end), file, damaged)) for file in files]
    count = sum(fields is not None for _, fields in found)
    if not count:
        raise NotSplittable(f"no file in the {archive} is a checkpoint that can be split")
    names = FreeNames()
    result: list[Field] = []
    for file, fields in found:
        if fields is not None:
            prefix = f"{file.name}/" if count > 1 else ""
            result += _moved(file, fields, prefix, names)
            result += [RangeChecksumField(file.start, file.end, offset) for offset in file.checksums]
    for file, fields in found:
        if fields is None and file.size > SMALL:
            name = names.take(file.name)
            result.append(Extent(name, TensorSpec.of("U8", (file.size,)), file.start))
            result += [ChecksumField(name, offset) for offset in file.checksums]
    return NotedFields(result, "; ".join(damaged[:1]))


def nested_facts(layout: Layout, files: Callable[[Content], Iterable[NestedFile]]) -> dict[str, bytes]:
    """Return the facts of the checkpoints in an archive, and the small files, under the names of the files.

    Args:
        layout: The layout of the archive.
        files: Returns the files of an archive.
    """
    content, segments = LiteralContent(layout), list(layout.located())
    starts = [at for at, _ in segments]
    facts: dict[str, bytes] = {}
    for file in files(content):
        part = Part(content, file.start, file.end)
        kind = next((kind for kind in _INSIDE if kind.detect(part)), None)
        inside = _between(segments[max(0, bisect_left(starts, file.start) - 1) : bisect_left(starts, file.end)], file)
        if kind is not None and any(not isinstance(segment, Literal) for segment in inside):
            facts |= {f"{file.name}/{key}": value for key, value in kind.facts(Layout(tuple(inside))).items()}
        elif file.size <= SMALL:
            facts[file.name] = bytes(part[:])
    return facts


def _fields(part: Part, file: NestedFile, damaged: list[str]) -> Sequence[Field] | None:
    """Return the tensors in a file; None if it is not a checkpoint that can be split."""
    kind = next((kind for kind in _INSIDE if kind.detect(part)), None)
    if kind is None:
        return None
    try:
        fields = kind.parse(part)
    except NotSplittable:
        return None
    except FormatError as error:
        damaged.append(f"{file.name!r} in it is damaged, and stored as bytes: {error.message}")
        return None
    if not fields or not all(0 <= field.offset <= field.end <= part.nbytes for field in fields):
        return None
    if file.checksums and any(not isinstance(field, Extent) for field in fields):
        raise NotSplittable(f"{file.name!r} has checksums of tensors, and there is a checksum of it")
    return fields


def _moved(file: NestedFile, fields: Sequence[Field], prefix: str, names: FreeNames) -> list[Field]:
    given = {field.name: names.take(prefix + field.name) for field in fields if isinstance(field, Extent)}
    return [
        moved(field if isinstance(field, RangeChecksumField) else replace(field, name=given[field.name]), file.start)
        for field in fields
    ]


def _between(segments: Sequence[tuple[int, Segment]], file: NestedFile) -> list[Segment]:
    """Return those segments, and parts of literals, that are in a file."""
    inside: list[Segment] = []
    for at, segment in segments:
        if isinstance(segment, Literal):
            if data := segment.data[max(0, file.start - at) : max(0, file.end - at)]:
                inside.append(Literal(data))
        elif file.start <= at and at + segment.nbytes <= file.end:
            inside.append(segment)
    return inside
