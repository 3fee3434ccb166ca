"""Copy blobs out of git's database and into it, many through one process, without holding one in memory."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    from typing_extensions import Self

    from git_theta_ext.git.objects import Git

_PIECE = 1 << 20


class BlobProcess:
    """A git process that answers one request after the other; a context manager, which ends it.

    Args:
        git: The repository.
        args: The arguments after ``git``.
    """

    def __init__(self, git: Git, *args: str) -> None:
        self._name = args[0]
        self._process = subprocess.Popen(
            ["git", *args], cwd=git.folder, env=git.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.__exit__(kind, error, trace)

    def _ask(self, request: bytes) -> IO[bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except OSError as error:
            raise RepositoryError(f"git {self._name} stopped", hint="git fsck") from error
        return self._process.stdout


class BlobReader(BlobProcess):
    """Copies blobs to files.

    Args:
        git: The repository.
    """

    def __init__(self, git: Git) -> None:
        super().__init__(git, "cat-file", "--batch")

    def copy(self, oid: str, file: IO[bytes]) -> int:
        """Copy a blob to a file and return its size.

        Raises:
            RepositoryError: Git does not have the blob, or cannot read it.
        """
        stream = self._ask(f"{oid}\n".encode())
        header = stream.readline().split()
        if len(header) != 3 or header[1] != b"blob":  # noqa: PLR2004 - id, type, size
            raise RepositoryError(f"git cannot read blob {oid}", hint="git fsck")
        left = nbytes = int(header[2])
        while left:
            piece = stream.read(min(left, _PIECE))
            if not piece:
                raise RepositoryError(f"git stopped in the middle of blob {oid}", hint="git fsck")
            file.write(piece)
            left -= len(piece)
        stream.read(1)
        return nbytes


class BlobWriter(BlobProcess):
    """Stores files as blobs.

    Args:
        git: The repository.
    """

    def __init__(self, git: Git) -> None:
        super().__init__(git, "hash-object", "-w", "--no-filters", "--stdin-paths")

    def store(self, path: Path) -> str:
        """Store the content of a file as it is, and return the id of the blob.

        Args:
            path: Absolute path, without a line feed.

        Raises:
            RepositoryError: Git cannot write the object.
        """
        oid = self._ask(f"{path}\n".encode(errors="surrogateescape")).readline().decode().strip()
        if not oid:
            raise RepositoryError("git cannot write an object", hint="check permissions and free space in .git")
        return oid
