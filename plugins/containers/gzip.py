"""Files that are compressed with gzip: `.gz`, `.tgz`, `.nemo`, and joblib's with `compress=("gzip", 3)`.

See RFC 1952. The recipe has the parameters of the compressor and the header, which has a name and a time.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Part

from ._deflate import deflate, find_parameters, inflate, most_bytes, read_parameters

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content, Target

_MAGIC = b"\x1f\x8b\x08"
_HEADER, _TRAILER = 10, 8
_CHECKED, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_KNOWN = 0x1F
_LONGEST = 1 << 17


class GzipContainer:
    """Unpacks files with one gzip stream."""

    name = "gzip"

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with the header of a gzip stream."""
        return bytes(data[: len(_MAGIC)]) == _MAGIC and data.nbytes > _HEADER + _TRAILER

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write the content; None for several streams, and for those of other compressors than zlib's."""
        try:
            header = _header(data)
            end = data.nbytes - _TRAILER
            stream = Part(data, len(header), end)
            checksum = size = 0
            for piece in inflate(stream, most_bytes(data.nbytes)):
                target.write(size, piece)
                checksum, size = zlib.crc32(piece, checksum), size + len(piece)
        except FormatError:
            return None
        if bytes(data[end:]) != _trailer(checksum, size):
            return None
        parameters = find_parameters(stream, target, target.advance, threads=target.threads)
        return None if parameters is None else bytes(parameters) + header

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the header, the compressed content, its CRC-32 and its size."""
        parameters, header = read_parameters(recipe), recipe[2:]
        target.write(0, header)
        at = len(header)
        for made in deflate(data, parameters, target.advance, target.threads):
            target.write(at, made)
            at += len(made)
        checksum = 0
        for start in range(0, data.nbytes, _LONGEST):
            checksum = zlib.crc32(data[start : start + _LONGEST], checksum)
        target.write(at, _trailer(checksum, data.nbytes))


CONTAINER = GzipContainer()


def _header(data: Content) -> bytes:
    """Return the header.

    Raises:
        FormatError: It is damaged, or too long.
    """
    head = bytes(data[:_LONGEST])
    flags, at = head[3], _HEADER
    if flags & _EXTRA:
        at += 2 + int.from_bytes(head[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            at = head.find(b"\0", at) + 1
            if not at:
                raise FormatError("a gzip header does not end")
    at += 2 * bool(flags & _CHECKED)
    if flags & ~_KNOWN or at > len(head) - _TRAILER:
        raise FormatError("a gzip header does not end")
    return head[:at]


def _trailer(checksum: int, size: int) -> bytes:
    return checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
