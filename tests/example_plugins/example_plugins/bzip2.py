"""Files that are compressed with bzip2: one stream of blocks."""

from __future__ import annotations

import bz2
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content, Target

_PIECE = 1 << 20
_SLACK, _RATIO = 1 << 26, 64
_LEVELS = range(ord("1"), ord("9") + 1)


class Bzip2:
    """Unpacks files of one stream, whose fourth byte is the level. It is the recipe."""

    name = "bzip2"

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with a stream's header."""
        return bytes(data[:3]) == b"BZh" and data.nbytes > 14

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write the content, compress it again, and compare."""
        stream, most, size = bz2.BZ2Decompressor(), _SLACK + _RATIO * data.nbytes, 0
        try:
            for start in range(0, data.nbytes, _PIECE):
                piece = stream.decompress(data[start : start + _PIECE], _PIECE)
                while piece and size <= most:
                    target.write(size, piece)
                    size += len(piece)
                    piece = b"" if stream.eof else stream.decompress(b"", _PIECE)
        except (OSError, EOFError):
            return None
        recipe, at = bytes(data[3:4]), 0
        if size > most or recipe[0] not in _LEVELS:
            return None
        for made in _compressed(target, recipe):
            if data[at : at + len(made)] != made:
                return None
            at += len(made)
        return recipe if at == data.nbytes else None

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the content compressed."""
        if len(recipe) != 1 or recipe[0] not in _LEVELS:
            raise FormatError("the recipe has no level")
        at = 0
        for made in _compressed(data, recipe):
            target.write(at, made)
            at += len(made)


def _compressed(content: Content, recipe: bytes) -> Iterator[bytes]:
    stream = bz2.BZ2Compressor(int(recipe))
    for start in range(0, content.nbytes, _PIECE):
        yield stream.compress(content[start : start + _PIECE])
    yield stream.flush()


CONTAINER = Bzip2()
