"""Compute the names of packs, which are the SHA-256 of their bytes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from git_theta_ext.util.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_READ = 1 << 17
"""Bytes of a file that are hashed in one go: those of two files stay in the CPU's cache."""
_BLOCK, _DIGEST = 64, 32
_INITIAL = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
"""The state of SHA-256 before the first block (FIPS 180-4, section 5.3.3)."""


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the names of some packs. Two are hashed in the time that one takes, if the processor can do that."""
    if not paths[1:]:
        return [*map(sha256_of, paths)]
    from git_theta_ext.coding.kernels import sha256  # a store is mostly opened to read, or to write a single pack

    if sha256 is None:
        return [*map(sha256_of, paths)]
    pairs = (paths[at : at + 2] for at in range(0, len(paths), 2))
    return [name for pair in pairs for name in (_both(sha256.update, *pair) if pair[1:] else map(sha256_of, pair))]


def _both(update: Callable[..., None], first: Path, second: Path) -> list[str]:
    states = bytearray(2 * _INITIAL)
    with ExitStack() as stack:
        messages = [_Message(stack.enter_context(path.open("rb", buffering=0))) for path in (first, second)]
        while not all(message.ended for message in messages):
            update(states, *(message.next() for message in messages))
    return [states[:_DIGEST].hex(), states[_DIGEST:].hex()]


class _Message:
    """The content of a file as a message of SHA-256: whole blocks, of which the last ones have the padding.

    Args:
        file: The file, unbuffered.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = memoryview(bytearray(_READ))
        self._nbytes = 0
        self.ended = False

    def next(self) -> memoryview | bytes:
        """Return the next blocks; none after the end."""
        filled = 0
        while not self.ended and filled < _READ:
            count = self._file.readinto(self._buffer[filled:])  # type: ignore[attr-defined]
            if not count:
                self.ended = True
                self._nbytes += filled
                size = (8 * self._nbytes).to_bytes(8, "big")
                return bytes(self._buffer[:filled]) + b"\x80" + bytes(-(filled + 9) % _BLOCK) + size
            filled += count
        self._nbytes += filled
        return self._buffer[:filled]
