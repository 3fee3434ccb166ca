"""Send packs to a git remote as blobs.

The blobs of several packs are collected in a scratch repository and pushed together, because each push is a connection.
Their tree is that of a commit without parents. The ref ``refs/theta/packs`` of the remote keeps all these commits: each
push adds a commit with an empty tree, whose parents are the last one and that with the blobs. So the next push has to
fetch only the last one, and two pushes at the same time do not send their blobs twice.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import IO, TYPE_CHECKING

from git_theta_ext.errors import RemoteError

from ._git_hosts import on_hugging_face
from ._parts import Part, Parts, pack_key
from ._scratch import PIECE, Scratch, pipes
from ._shared_ref import SharedRef

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_ext.interfaces import GitCommands

BATCH = 1 << 28
"""Bytes of blobs that are pushed together, unless one of them is larger."""


class Outbox:
    """Packs on their way to a git remote.

    Args:
        git: The local repository.
        address: The address of the git remote.
        part_size: Maximum size of a blob in bytes.
        options: Arguments of git before every command.
        report: See ``RemoteContext``.
    """

    def __init__(
        self,
        git: GitCommands,
        address: str,
        part_size: int,
        options: tuple[str, ...],
        report: Callable[[str, int], None],
    ) -> None:
        self._report = report
        self._git = git
        self._address = address
        self._part_size = part_size
        self._options = options
        self._lock = Lock()
        self._batch: _Batch | None = None
        self._parts: dict[str, list[Part]] = {}
        self._whole: set[str] = set()

    def add(self, name: str, path: Path) -> bool:
        """Add a pack, and push what has been collected if that is enough.

        If pushing fails, what has been collected is kept, and the next call tries again.

        Returns:
            Whether it was added; False if it was added before.

        Raises:
            RemoteError: The remote refuses, or cannot be reached, or the disk is full.
        """
        with self._lock, path.open("rb") as file:
            if name in self._whole:
                return False
            self._report(pack_key(name), 0)
            size = os.fstat(file.fileno()).st_size
            parts = self._parts.setdefault(name, [])
            while (at := sum(part.size for part in parts)) < size:
                if self._batch is not None and self._batch.nbytes >= BATCH:
                    self._push()
                file.seek(at)
                parts.append(self._stage(name, len(parts), file, min(self._part_size, size - at)))
            self._whole.add(name)
            return True

    def flush(self) -> None:
        """Push what has been collected.

        Raises:
            RemoteError: The remote refuses, or cannot be reached.
        """
        with self._lock:
            self._push()

    def parts(self, name: str) -> Parts | None:
        """Return the parts of a pack that was added; None for others."""
        with self._lock:
            return tuple(self._parts[name]) if name in self._whole else None

    def _stage(self, name: str, number: int, file: IO[bytes], size: int) -> Part:
        if self._batch is None:
            self._batch = _Batch(Scratch(self._git, self._address, self._options))
        try:
            return self._batch.add(f"packs/{name[:2]}/{name[2:]}/{number:04}", name, file, size)
        except (OSError, RemoteError) as error:
            lost, self._batch = self._batch, None
            for other in lost.names | {name}:
                self._parts.pop(other, None)
                self._whole.discard(other)
            raise RemoteError(f"cannot collect packs in {lost.folder}: {lost.close() or error}") from error

    def _push(self) -> None:
        if self._batch is not None:
            self._batch.push(self._git, on_hugging_face(self._address), self._report)
            self._batch = None


class _Batch:
    """Blobs that are pushed together: ``git fast-import`` makes one file of them."""

    def __init__(self, scratch: Scratch) -> None:
        self.nbytes = 0
        self.names: set[str] = set()
        self.folder = scratch.bare.folder
        self._scratch = scratch
        self._paths: list[str] = []
        self._shares: list[tuple[str, int, int]] = []  # name of a pack, and the first and the last of its bytes
        self._commit: str | None = None
        self._process = scratch.start("fast-import", "--quiet")
        self._target, self._source = pipes(self._process)

    def add(self, path: str, name: str, file: IO[bytes], size: int) -> Part:
        """Add the next bytes of a file as a blob of a pack.

        Raises:
            RemoteError: The file is shorter, or the disk is full.
        """
        self.names.add(name)
        self._shares.append((name, file.tell(), file.tell() + size))
        self._paths.append(path)
        mark = len(self._paths)
        self._target.write(f"blob\nmark :{mark}\ndata {size}\n".encode())
        left = size
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise RemoteError(f"pack {name} is truncated")
            self._target.write(piece)
            left -= len(piece)
        oid = self._ask(f"\nget-mark :{mark}\n")
        self.nbytes += size
        return Part(oid, size)

    def push(self, git: GitCommands, branch: bool, report: Callable[[str, int], None]) -> None:  # noqa: FBT001 - one caller
        """Push the blobs and keep them in the ref.

        Raises:
            RemoteError: The remote refuses, or cannot be reached.
        """
        bare = self._scratch.bare
        identity = bare.identity()
        message = f"Add {len(self.names)} packs of parameters [skip ci]\n"
        blobs = self._commit = self._commit or self._finish(identity, message)
        tree = bare.run("hash-object", "-w", "-t", "tree", "--stdin", data=b"").decode().strip()

        def make(tip: str | None) -> str:
            parents = "".join(f"parent {commit}\n" for commit in (tip, blobs) if commit)
            text = f"tree {tree}\n{parents}author {identity}\ncommitter {identity}\n\n{message}"
            return bare.run("hash-object", "-w", "-t", "commit", "--stdin", data=text.encode()).decode().strip()

        def sent(nbytes: int) -> None:
            for name, start, end in self._shares:
                report(pack_key(name), min(end, start + nbytes))
                nbytes = max(0, nbytes - (end - start))

        ref = SharedRef(git, bare, "packs", branch=branch, sent=sent)
        ref.fetch()
        ref.add(make)

    def close(self) -> str:
        """Stop collecting, and return why it failed, if git says so."""
        self._process.kill()
        self._process.communicate()
        return self._scratch.words()

    def _finish(self, identity: str, message: str) -> str:
        lines = [f"commit refs/made/packs\nmark :{len(self._paths) + 1}\ncommitter {identity}\n"]
        lines.append(f"data {len(message.encode())}\n{message}")
        lines += [f"M 100644 :{mark} {path}\n" for mark, path in enumerate(self._paths, 1)]
        lines.append(f"\nget-mark :{len(self._paths) + 1}\n")
        commit = self._ask("".join(lines))
        self._process.communicate()
        if self._process.returncode:
            raise RemoteError(f"cannot collect packs in {self.folder}: {self._scratch.words()}")
        return commit

    def _ask(self, text: str) -> str:
        self._target.write(text.encode())
        self._target.flush()
        answer = self._source.readline().decode().strip()
        if not answer:
            raise RemoteError(f"cannot collect packs in {self.folder}: {self._scratch.words()}")
        return answer
