"""A bare repository for one transfer of git blobs, which is removed after it.

So the user's disk has no second copy of each pack. Git reads and writes the blobs as streams, and does not compress
them again, because packs are compressed.
"""

from __future__ import annotations

import os
import shutil
import time
import weakref
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING

from git_theta_ext.errors import CorruptError

from ._bare_repository import BareRepository
from ._files import STALE_SECONDS, TEMPORARY

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import GitCommands

    from ._parts import Part

PIECE = 1 << 20
_MOST_WORDS = 1 << 16
_STREAMED = {
    "core.compression": "0",
    "pack.compression": "0",
    "core.bigFileThreshold": "1",
    "fastimport.unpackLimit": "1",
    "fetch.unpackLimit": "1",
    "fetch.negotiationAlgorithm": "noop",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class Scratch:
    """A repository that is removed when nothing refers to it any more.

    Args:
        git: The local repository.
        address: The address of the git remote.
        options: Arguments of git before every command.

    Attributes:
        bare: The repository.
    """

    def __init__(self, git: GitCommands, address: str, options: tuple[str, ...]) -> None:
        parent = git.common_dir / "theta" / "remote-index"
        _remove_stale(parent)
        streamed = tuple(word for key, value in _STREAMED.items() for word in ("-c", f"{key}={value}"))
        self.bare = BareRepository(git, address, parent / f"{TEMPORARY}{token_hex(8)}", streamed + options)
        self.bare.make()
        weakref.finalize(self, shutil.rmtree, self.bare.folder, ignore_errors=True)
        self._messages = self.bare.folder / "messages"

    def start(
        self, *args: str, environment: Mapping[str, str] | None = None, address: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a git command; see ``BareRepository.start``."""
        with self._messages.open("ab") as messages:
            return self.bare.start(*args, messages=messages, environment=environment, address=address)

    def words(self) -> str:
        """Return the last messages of commands that were started."""
        with self._messages.open("rb") as file:
            file.seek(max(0, self._messages.stat().st_size - _MOST_WORDS))
            return file.read().decode(errors="replace").strip()

    def nbytes(self) -> int:
        """Return the size of its files in bytes."""
        nbytes = 0
        for folder, _, names in os.walk(self.bare.folder):
            for name in names:
                with suppress(OSError):  # git has just renamed it
                    nbytes += (Path(folder) / name).stat().st_size
        return nbytes

    def sizes(self, oids: list[str]) -> dict[str, int]:
        """Return the sizes of those blobs that are here, by object id."""
        output = self.bare.run("cat-file", "--batch-check", data="".join(f"{oid}\n" for oid in oids).encode())
        lines = [line.split() for line in output.decode().splitlines()]
        return {line[0]: int(line[2]) for line in lines if line[1] == "blob"}

    def read(self, part: Part, wanted: slice) -> Iterator[bytes]:
        """Yield some bytes of a blob in pieces.

        Raises:
            CorruptError: It has another size, or is damaged.
        """
        with self.start("cat-file", "--batch") as process:
            try:
                target, source = pipes(process)
                target.write(f"{part.oid}\n".encode())
                target.close()
                if source.readline().split() != [part.oid.encode(), b"blob", str(part.size).encode()]:
                    raise CorruptError(f"{self.bare.url}: the blob {part.oid} does not have {part.size} bytes")
                at = 0
                while at < wanted.stop:
                    piece = source.read(min(PIECE, wanted.stop - at))
                    if not piece:
                        raise CorruptError(f"{self.bare.url}: the blob {part.oid} is damaged: {self.words()}")
                    yield piece[max(0, wanted.start - at) :]
                    at += len(piece)
            finally:
                process.kill()


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Return the input and the output of a command that was started with pipes."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the command has no pipes")
    return process.stdin, process.stdout


def _remove_stale(parent: Path) -> None:
    """Remove the repositories of processes that were killed more than a day ago."""
    for path in parent.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
