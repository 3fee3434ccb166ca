"""Pickles of protocol 2 whose arrays are texts: `.pkl` of `pickle.dump(model, file, protocol=2)`.

Protocols before 3 have no bytes. Python 3 writes them as a text of Latin-1, in which each byte from 128 on takes two,
and a call that encodes it. The content has an opcode with bytes in place of each long text, so its arrays are found.
UTF-8 has one way to write a text, so the file comes back.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import IO, TYPE_CHECKING, cast

from git_theta_ext.errors import FormatError

from ..formats._pickle import MAX_OPCODES  # noqa: TID252 - the package has another name where it is installed
from ..formats._pickle_stream import PickleStream  # noqa: TID252 - the package has another name where it is installed
from ._spool import write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content, Target

_START = b"\x80\x02"
_LONG = 0x8A  # as the magic number of torch's files begins, which a pickle of protocol 2 is, too
_ENCODE = b"c_codecs\nencode\n"
"""What every array of numpy needs before its first byte."""
_HEAD = 1 << 16
_TEXT, _BYTES = b"X", b"B"
_OPCODE = 5
"""Bytes of one of these opcodes with the size of what follows."""
_LEAST = 256
"""The minimum number of bytes that replace a text; names are shorter."""
_PIECE = 1 << 18
_LIMIT = 1 << 32


class PickleTextContainer:
    """Replaces the texts in a pickle that stand for bytes by these bytes."""

    name = "pickle_text"

    def detect(self, data: Content) -> bool:
        """Return whether the file begins and ends as a pickle of protocol 2, and soon encodes a text."""
        ends = data.nbytes > _OPCODE and bytes(data[:2]) == _START and data[data.nbytes - 1] == ord(".")
        return ends and data[2] != _LONG and _ENCODE in bytes(data[:_HEAD])

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write the pickle with bytes; None if it is damaged or has bytes already."""
        copied = at = 0
        try:
            for code, start, size in _strings(data):
                if code == _BYTES:
                    return None
                end = start + _OPCODE + size
                length = 0 if size < _LEAST else _bytes_in(data, start + _OPCODE, end)
                if length < _LEAST:
                    continue
                at += write(target, at, _range(data, copied, start))
                at += write(target, at, [_BYTES + length.to_bytes(4, "little")])
                at += write(target, at, (text.encode("latin-1") for text in _decoded(data, start + _OPCODE, end)))
                target.advance(size)
                copied = end
        except FormatError:
            return None
        write(target, at, _range(data, copied, data.nbytes))
        return b""

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the pickle with texts.

        Raises:
            FormatError: The recipe is not empty, or the content is damaged.
        """
        if recipe:
            raise FormatError("a recipe of a pickle is empty")
        copied = at = 0
        for code, start, size in _strings(data):
            if code == _TEXT:
                continue
            at += write(target, at, _range(data, copied, start))
            copied = start + _OPCODE + size
            pieces = (str(piece, "latin-1").encode() for piece in _range(data, start + _OPCODE, copied))
            length = write(target, at + _OPCODE, pieces)
            if length >= _LIMIT:
                raise FormatError("a text of 4 GiB does not fit into a pickle of protocol 2")
            write(target, at, [_TEXT + length.to_bytes(4, "little")])
            at += _OPCODE + length
            target.advance(size)
        write(target, at, _range(data, copied, data.nbytes))


CONTAINER = PickleTextContainer()


def _strings(data: Content) -> Iterator[tuple[bytes, int, int]]:
    """Yield each text and each string of bytes in a pickle: its opcode, where that is, and the size of the string.

    Raises:
        FormatError: The pickle is damaged.
    """
    from pickletools import UP_TO_NEWLINE, opcodes

    known = {opcode.code.encode("latin-1"): opcode for opcode in opcodes}
    stream = PickleStream(data)
    try:
        for _ in range(MAX_OPCODES):
            start, code = stream.tell(), stream.read(1)
            if code in (_TEXT, _BYTES):
                size = int.from_bytes(stream.read(4), "little")
                stream.skip(size)
                yield code, start, size
            elif code == b".":
                return
            elif (argument := known[code].arg) is not None:
                if argument.n == UP_TO_NEWLINE:  # reading it would warn about escapes
                    lines = [stream.readline() for _ in range(1 + argument.name.endswith("_pair"))]
                    if not all(line.endswith(b"\n") for line in lines):
                        raise FormatError("damaged pickle: it ends early")
                else:
                    argument.reader(cast("IO[bytes]", stream))
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise FormatError(f"damaged pickle: {error}") from error
    raise FormatError(f"a pickle of more than {MAX_OPCODES} opcodes")


def _bytes_in(data: Content, start: int, end: int) -> int:
    """Return how many bytes a text stands for; 0 if it has other characters than those of Latin-1."""
    count = 0
    try:
        for text in _decoded(data, start, end):
            if text and max(text) > "\xff":
                return 0
            count += len(text)
    except UnicodeDecodeError:
        return 0
    return count


def _decoded(data: Content, start: int, end: int) -> Iterator[str]:
    decoder = getincrementaldecoder("utf-8")()
    for piece in _range(data, start, end):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _range(data: Content, start: int, end: int) -> Iterator[memoryview]:
    for at in range(start, end, _PIECE):
        yield data[at : min(at + _PIECE, end)]
