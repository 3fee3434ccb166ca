"""Files that are one stream of zlib, as joblib writes with `compress=3`.

See RFC 1950. The recipe has the parameters of the compressor and the header of two bytes.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Part

from ._deflate import deflate, find_parameters, inflate, most_bytes, read_parameters

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content, Target

_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_HEADER, _TRAILER = 2, 4


class ZlibContainer:
    """Unpacks files with one zlib stream."""

    name = "zlib"

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with the header of a zlib stream with a window of 32 KiB."""
        return data.nbytes > _HEADER + _TRAILER and bytes(data[:_HEADER]) in _HEADERS

    def unpack(self, data: Content, target: Target) -> bytes | None:
        """Write the content; None for those of other compressors than zlib's."""
        end = data.nbytes - _TRAILER
        stream, checksum, size = Part(data, _HEADER, end), 1, 0
        try:
            for piece in inflate(stream, most_bytes(data.nbytes)):
                target.write(size, piece)
                checksum, size = zlib.adler32(piece, checksum), size + len(piece)
        except FormatError:
            return None
        if bytes(data[end:]) != checksum.to_bytes(_TRAILER, "big"):
            return None
        parameters = find_parameters(stream, target, target.advance, threads=target.threads)
        return None if parameters is None else bytes(parameters) + bytes(data[:_HEADER])

    def pack(self, data: Content, recipe: bytes, target: Target) -> None:
        """Write the header, the compressed content and its Adler-32."""
        parameters = read_parameters(recipe)
        target.write(0, recipe[2:])
        at, checksum = len(recipe) - 2, 1
        for made in deflate(data, parameters, target.advance, target.threads):
            target.write(at, made)
            at += len(made)
        for start in range(0, data.nbytes, _PIECE):
            checksum = zlib.adler32(data[start : start + _PIECE], checksum)
        target.write(at, checksum.to_bytes(_TRAILER, "big"))


_PIECE = 1 << 17
CONTAINER = ZlibContainer()
