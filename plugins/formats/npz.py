"""Arrays of numpy: ``.npy`` (one array), ``.npz`` (a zip of them) and Equinox's ``.eqx`` (one array after another).

See https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. The header is a Python literal. It is read
by ``ast.literal_eval`` with numpy's own limit of length, so a header takes at most 1 MiB of memory at a time. The
directory of a zip archive takes at most 16 times its size.
"""

from __future__ import annotations

import re
import warnings
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import (
    ChecksumField,
    Dtype,
    Extent,
    Literal,
    NotSplittable,
    Slice,
    TensorSpec,
    dtype,
    opaque,
)

from . import _zip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Content, Field, Layout

_MAGIC = b"\x93NUMPY"
_SUFFIX = ".npy"
_FORTRAN = b"'fortran_order': True"
_MAX_HEADER = 10_000
_WIDE_START = 12
_WIDE_HEADER = 2  # from this version on, the header's length has four bytes instead of two
_UNICODE = 3  # the version whose header is UTF-8
_MAX_ITEM = 100_000
_LONGEST_LINE = 1 << 16
_SMALL = 4096
"""The most bytes of a member with Python objects that is literal."""
_DTYPES = {
    "|b1": "BOOL", "|i1": "I8", "|u1": "U8", "<i2": "I16", "<u2": "U16", "<i4": "I32", "<u4": "U32", "<i8": "I64",
    "<u8": "U64", "<f2": "F16", "<f4": "F32", "<f8": "F64", "<c8": "C64", "<c16": "C128",
}  # fmt: skip
_SIMPLE = re.compile(r"([<>|=])([biufcmMSUVaO])(\d{0,9})(\[.{1,32}\])?")
_UNFIT = re.compile(r"[^A-Za-z0-9_.+<>|=-]")


class NpzFormat:
    """Finds arrays by their headers."""

    name = "npz"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with an array, also after a line of JSON, or is a zip archive of arrays."""
        if _first(data) is not None:
            return True
        first = _zip.first_name(data)
        if first is None or not first.endswith(_SUFFIX):
            return False
        return all(name.endswith(_SUFFIX) for name in _zip.names(data))

    def parse(self, data: Content) -> list[Field]:
        """Find the arrays. The array of a ``.npy`` file is called ``array``, and several in a row ``arr_0`` and so on.

        The shape of an array in Fortran order is reversed, to match the order of its bytes. A member with Python
        objects is one tensor of bytes, or literal if it is small.

        Raises:
            FormatError: The archive or a header is damaged. The message names the array.
            NotSplittable: A member is compressed, or all arrays have Python objects.
        """
        first = _first(data)
        if first is not None:
            return [*_row(data, first)]
        fields: list[Field] = []
        odd: NotSplittable | None = None
        for member in _zip.members(data):
            if not member.name.endswith(_SUFFIX):
                continue
            name = member.name.removesuffix(_SUFFIX)
            try:
                extents = _array(name, data, member.start, member.end)
            except NotSplittable as reason:  # of Python objects: the other arrays are split
                odd = odd or reason
                large = member.size > _SMALL
                extents = [Extent(name, TensorSpec.of("U8", (member.size,)), member.start)] if large else []
            for extent in extents:
                fields.append(extent)
                if extent.end == member.end:
                    seed = zlib.crc32(data[member.start : extent.offset])
                    fields.extend(ChecksumField(name, offset, seed) for offset in member.checksums)
        if odd is not None and not fields:
            raise odd
        return fields

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the archive would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the headers of arrays and all members that are not arrays, under their names."""
        first = layout.segments[0] if layout.segments else None
        if isinstance(first, Literal) and _first(memoryview(first.data)) is not None:
            return {"array": b"".join(part.data for part in layout.segments if isinstance(part, Literal))}
        return _zip.literals(layout)

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the archive would have to be rewritten."""

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return the arrays in Fortran order, whose shape is reversed."""
        before, found = b"", {}
        for part in layout.segments:
            if isinstance(part, Literal):
                before = part.data
            elif isinstance(part, Slice):
                if _FORTRAN in before[before.rfind(_MAGIC) :]:
                    found[part.name] = "is in Fortran order"
                before = b""
        return found


FORMAT = NpzFormat()


def _first(data: Content) -> int | None:
    """Return where the first array of a row begins: at the beginning, or after a line of JSON, as Equinox advises."""
    if data[: len(_MAGIC)] == _MAGIC:
        return 0
    if bytes(data[:1]) != b"{":
        return None
    line = bytes(data[:_LONGEST_LINE]).find(b"\n") + 1
    return line if line and data[line : line + len(_MAGIC)] == _MAGIC else None


def _row(data: Content, start: int) -> list[Extent]:
    """Find the arrays that follow each other; what follows one of Python objects, whose end is unknown, is left out."""
    found: list[Extent] = []
    while data[start : start + len(_MAGIC)] == _MAGIC:
        try:
            extents = _array(f"arr_{len(found)}" if found else "array", data, start, data.nbytes)
        except NotSplittable:
            if not found:
                raise
            break
        if not extents:
            break
        found += extents
        start = extents[0].end
    return found if len(found) <= 1 else [replace(found[0], name="arr_0"), *found[1:]]


def _array(name: str, data: Content, start: int, end: int) -> list[Extent]:
    """Find the array of one ``.npy`` file; an array whose elements have no bytes is left out."""
    try:
        kind, shape, offset = _header(data[start : min(end, start + _WIDE_START + _MAX_HEADER)])
        if kind is None:
            return []
        spec = TensorSpec(kind, shape)
    except FormatError as error:
        raise FormatError(f"parameter {name!r}: {error.message}") from error
    except NotSplittable as reason:
        raise NotSplittable(f"parameter {name!r} has {reason}") from reason
    extent = Extent(name, spec, start + offset)
    if extent.end > end:
        raise FormatError(
            f"parameter {name!r}: {spec} has {spec.nbytes} bytes, but {end - extent.offset} are in the file; "
            "the file may be truncated"
        )
    return [extent]


def _header(data: memoryview) -> tuple[Dtype | None, tuple[int, ...], int]:
    """Return the element type, the shape in the order of the bytes, and the size of the header."""
    if data.nbytes < len(_MAGIC) + 4 or data[: len(_MAGIC)] != _MAGIC:
        raise FormatError("no .npy header")
    version = data[6]
    if not 1 <= version <= _UNICODE:
        raise FormatError(f"a .npy header of version {version}, which is unknown")
    start = _WIDE_START if version >= _WIDE_HEADER else 10
    length = int.from_bytes(data[8:start], "little")
    if length > _MAX_HEADER:
        raise NotSplittable(f"a .npy header of {length} bytes, more than numpy reads by default")
    if start + length > data.nbytes:
        raise FormatError("a .npy header does not end; the file may be truncated")
    text = bytes(data[start : start + length]).decode("utf-8" if version == _UNICODE else "latin-1", "replace")
    kind, shape = _evaluate(text)
    return kind, shape, start + length


def _evaluate(header: str) -> tuple[Dtype | None, tuple[int, ...]]:
    import ast

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the texts of the file, which the user did not write
            value = ast.literal_eval(header.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise FormatError(f"the .npy header is not a Python literal: {error}") from error
    match value:
        case {"descr": descr, "fortran_order": bool() as fortran, "shape": tuple() as shape} if all(
            type(n) is int for n in shape
        ):
            return dtype_of(descr), shape[::-1] if fortran else shape
    raise FormatError("the .npy header lacks descr, fortran_order or shape")


def dtype_of(descr: object) -> Dtype | None:
    """Return an element type, as numpy describes it; None if elements have no bytes.

    Raises:
        FormatError: It is no element type.
        NotSplittable: Elements are Python objects, or large.
    """
    if isinstance(descr, str) and descr in _DTYPES:
        return dtype(_DTYPES[descr])
    size = _item_size(descr)
    if size > _MAX_ITEM:
        raise NotSplittable(f"elements of {size} bytes")
    if not size:
        return None
    label = _UNFIT.sub("_", descr)[:64] if isinstance(descr, str) else "struct"
    return opaque(size * 8, label)


def _item_size(descr: object) -> int:
    """Return the size in bytes of an element that is a string, a date, a record or of non-native byte order."""
    match descr:
        case str():
            match = _SIMPLE.fullmatch(descr)
            if match is None:
                raise FormatError(f"{descr[:80]!r} is not an element type")
            if match[2] == "O":
                raise NotSplittable("Python objects, which are pickled")
            return int(match[3] or 0) * (4 if match[2] == "U" else 1)
        case list():
            return sum(_field_size(field) for field in descr)
        case (inner, tuple() as shape):
            return _item_size(inner) * _product(shape)
    raise FormatError(f"{str(descr)[:80]!r} is not an element type")


def _field_size(field: object) -> int:
    match field:
        case (_, inner):
            return _item_size(inner)
        case (_, inner, tuple() as shape):
            return _item_size(inner) * _product(shape)
        case (_, inner, int() as count):
            return _item_size(inner) * _product((count,))
    raise FormatError(f"{str(field)[:80]!r} is not a field of a record")


def _product(shape: tuple[object, ...]) -> int:
    count = 1
    for n in shape:
        if type(n) is not int or not 0 <= n <= _MAX_ITEM:
            raise FormatError(f"{str(shape)[:80]!r} is not the shape of a field")
        count *= n
    return count
