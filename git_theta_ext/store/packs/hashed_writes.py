"""Compare a new pack with what was written to it, and name it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from typing_extensions import Buffer

_BLOCK = 1 << 18


class HashedWrites:
    """Writes the chunks of a pack and then its head, and hashes what it writes.

    Args:
        file: The pack, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = blake3()

    def write(self, data: Buffer) -> int:
        """Write bytes, and return their number."""
        self._hasher.update(data)
        return self._file.write(data)

    def compare(self, path: Path, head: int) -> str:
        """Compare the file with what was written, and return the name of the pack, the SHA-256 of its bytes.

        The file is read once for both.

        Args:
            path: Path of the file.
            head: Size of its head in bytes.

        Raises:
            CorruptError: They differ.
        """
        hasher = blake3()
        with path.open("rb", buffering=0) as file:
            first = file.read(head)
            name = sha256(first)
            while block := file.read(_BLOCK):
                hasher.update(block)
                name.update(block)
        hasher.update(first)
        if hasher.digest() != self._hasher.digest():
            raise CorruptError(f"the disk returns other bytes of the new pack {path} than were written to it")
        return name.hexdigest()
