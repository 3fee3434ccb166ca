"""Packs on an LFS server: each is an object, or several if it is larger than hosts allow."""

from __future__ import annotations

from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError, RemoteError
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS
from git_theta_ext.protocol.lfs.pointer import Pointer

from ._files import own_size
from ._http import PIECE
from ._part_uploads import upload_parts
from ._parts import Part, overlapping, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ._lfs_downloads import Downloads
    from ._lfs_uploads import Uploads
    from ._parts import Parts


MAX_PARTS = 800
"""Maximum number of objects that a pack is divided into."""


class LfsPacks:
    """Transfers packs.

    Args:
        uploads: Uploads objects.
        downloads: Downloads objects.
        part_size: Maximum size of an object in bytes.
    """

    def __init__(self, uploads: Uploads, downloads: Downloads, part_size: int) -> None:
        self._uploads = uploads
        self._downloads = downloads
        self._part_size = part_size

    @property
    def ranged(self) -> bool:
        """Whether the server sends ranges of objects, as far as is known."""
        return self._downloads.ranged

    def upload(self, name: str, path: Path, report: Callable[[int], None]) -> tuple[Parts, bool]:
        """Upload what the server lacks of a pack.

        Args:
            name: The name of the pack.
            path: Its file.
            report: Called with the number of bytes that are sent.

        Returns:
            The objects that have the bytes of the pack, one after another, and whether all of them were sent.

        Raises:
            ConfigError: The pack would have too many parts.
            RemoteError: The server refuses, or cannot be reached.
        """
        size = path.stat().st_size
        if size > MAX_PARTS * self._part_size:
            raise ConfigError(
                f"pack {name} has {size} bytes, more than {MAX_PARTS} parts of {self._part_size} bytes",
                hint=f"git config theta.remote.NAME.partSize {-(-size // MAX_PARTS)}",
            )
        parts = (Part(name, size),) if size <= self._part_size else _divided(path, self._part_size)
        if total(parts) != size:
            raise RemoteError(f"{path}: the file has changed")

        def send(part: Part, at: int, count: Callable[[int], None]) -> bool:
            return self._uploads.upload(Pointer(part.oid, part.size), path, count, at)

        return parts, send(parts[0], 0, report) if len(parts) == 1 else upload_parts(parts, send, report)

    def fetch(self, parts: Parts, path: Path, report: Callable[[int], None]) -> None:
        """Download a pack to a file, after the bytes that it has already.

        Raises:
            ThetaError: See ``Downloads.fetch``.
        """
        begun = own_size(path, total(parts))
        for at, part in _placed(parts):
            if (part.size and begun < at + part.size) or not total(parts):
                self._downloads.fetch(Pointer(part.oid, part.size), path, report, start=at)

    def read(self, parts: Parts, start: int, end: int) -> bytes:
        """Return the bytes of a pack from ``start`` up to ``end``, which must be within it.

        Raises:
            ThetaError: See ``Downloads.fetch``.
        """
        pieces = (
            self._downloads.read(Pointer(part.oid, part.size), wanted.start, wanted.stop)
            for part, wanted in overlapping(parts, start, end)
        )
        return b"".join(pieces)

    def absent(self, packs: Iterable[Parts]) -> set[str]:
        """Return the ids of the objects of some packs that the server says to lack."""
        pointers = [Pointer(part.oid, part.size) for parts in packs for part in parts]
        absent: set[str] = set()
        for start in range(0, len(pointers), MAX_OBJECTS):
            absent |= self._downloads.absent(pointers[start : start + MAX_OBJECTS])
        return absent


def _placed(parts: Parts) -> Iterable[tuple[int, Part]]:
    """Return parts with the offsets of their first bytes in the pack."""
    return zip(accumulate((part.size for part in parts), initial=0), parts, strict=False)


def _divided(path: Path, size: int) -> Parts:
    """Divide a file into parts of ``size`` bytes; the last one may be smaller."""
    parts = []
    with path.open("rb") as file:
        while True:
            digest, left = sha256(), size
            while left and (piece := file.read(min(PIECE, left))):
                digest.update(piece)
                left -= len(piece)
            if left < size:
                parts.append(Part(digest.hexdigest(), size - left))
            if left:
                return tuple(parts)
