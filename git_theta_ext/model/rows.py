"""Read MessagePack that is a list of short rows, with memory bounded by its size.

A byte of MessagePack can become an empty list of 64 bytes in memory, and five bytes can claim a list of four billion
items. Rows are therefore read one at a time, and the lists in a row and their items are limited: apart from its texts,
a row takes constant memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDEST = 64
"""The limit of items in a list or mapping of a row, enough for the dimensions of a shape."""
MOST_LISTS = 16
"""The limit of lists and mappings in a row, including itself."""

_PIECE = 1 << 16
_WRONG = "not MessagePack"


class _Source:
    """The file that an unpacker reads, and the number of lists that it has made of a row.

    It does not know the unpacker: a cycle of references would keep the unpacker's buffer until a garbage collection.
    """

    def __init__(self, data: memoryview) -> None:
        self.lists = 0
        self._data = data
        self._fed = 0

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes, as a file does."""
        piece = bytes(self._data[self._fed : self._fed + nbytes])
        self._fed += len(piece)
        return piece

    def count(self, value: Any) -> Any:
        """Count a list or a mapping, and return it."""
        self.lists += 1
        if self.lists > MOST_LISTS:
            raise ValueError(f"a row has more than {MOST_LISTS} lists")
        return value


class RowReader:
    """A reader of values, one after another.

    Args:
        data: The whole data.

    Raises:
        ValueError: Every method raises it if the data is not MessagePack, ends early, or exceeds a limit.
    """

    def __init__(self, data: memoryview) -> None:
        self._nbytes = data.nbytes
        self._source = _Source(data)
        self._unpacker = msgpack.Unpacker(
            self._source,
            read_size=min(_PIECE, data.nbytes + 1),  # it allocates that much at once
            max_buffer_size=data.nbytes + _PIECE,
            max_array_len=WIDEST,
            max_map_len=WIDEST,
            strict_map_key=True,
            list_hook=self._source.count,
            object_hook=self._source.count,
        )

    def mapping(self) -> int:
        """Return the number of keys of the mapping that comes next."""
        return int(self._checked(self._unpacker.read_map_header))

    def rows(self, most: int) -> Iterator[Any]:
        """Yield the values of the list that comes next, up to a limit."""
        count = self._checked(self._unpacker.read_array_header)
        if count > most:
            raise ValueError(f"{count} rows exceed the limit of {most}")
        source, unpack = self._source, self._unpacker.unpack
        for _ in range(count):  # as ``value``, without two calls for each tensor of a model
            source.lists = 0
            try:
                row = unpack()
            except msgpack.UnpackException as error:
                raise ValueError(str(error) or _WRONG) from error
            yield row

    def value(self) -> Any:
        """Return the next value."""
        self._source.lists = 0
        return self._checked(self._unpacker.unpack)

    def end(self) -> None:
        """Check that nothing follows."""
        if self._unpacker.tell() != self._nbytes:
            raise ValueError("bytes are left over")

    @staticmethod
    def _checked(step: Any) -> Any:
        try:
            return step()
        except msgpack.UnpackException as error:
            raise ValueError(str(error) or _WRONG) from error
