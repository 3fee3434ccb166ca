"""An index that is a ref of the git remote: files of the last commit, which every push adds to.

A push removes no file of a pack. The commits are in a bare repository of their own.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING

from ._bare_repository import BareRepository
from ._git_hosts import on_hugging_face
from ._lost import LostPacks
from ._shared_ref import SharedRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.interfaces import GitCommands

_AT_ONCE = 1 << 24
"""Bytes of files that are read together."""

_ENTRY = re.compile(rb"100644 blob ([0-9a-f]{40,64})\t(.+)", re.DOTALL)


class IndexRef:
    """The index of a git remote.

    Args:
        git: The local repository.
        address: The address of the git remote.
        options: Arguments of git before every command.

    Attributes:
        lost: The packs of the index that the remote turned out to lack.
    """

    def __init__(self, git: GitCommands, address: str, options: tuple[str, ...] = ()) -> None:
        folder = git.common_dir / "theta" / "remote-index" / f"{sha256(os.fsencode(address)).hexdigest()[:16]}.git"
        self.lost = LostPacks(folder.with_suffix(".lost"))
        self._bare = BareRepository(git, address, folder, options)
        self._ref = SharedRef(git, self._bare, "index", branch=on_hugging_face(address))

    def fetch(self) -> dict[str, str]:
        """Bring the index, and return the object id of each file by its path.

        Raises:
            RemoteError: The remote cannot be reached.
        """
        with self._bare.locked():
            self._ref.fetch()
            return self._listed()

    def _listed(self) -> dict[str, str]:
        return {path: oid for tip in self._ref.tips().values() for path, oid in self._files(tip).items()}

    def read(self, oids: Iterable[str], largest: int) -> Iterator[tuple[str, bytes]]:
        """Yield object id and content of files, except those that are missing or have more than ``largest`` bytes.

        Raises:
            RemoteError: The local copy is damaged.
        """
        wanted = "".join(f"{oid}\n" for oid in oids).encode()
        sizes = [line.split() for line in self._bare.run("cat-file", "--batch-check", data=wanted).splitlines()]
        blobs = [(line[0], int(line[2])) for line in sizes if line[1:2] == [b"blob"] and int(line[2]) <= largest]
        for batch in _batches(blobs):
            output = self._bare.run("cat-file", "--batch", data=b"".join(oid + b"\n" for oid in batch))
            at = 0
            while at < len(output):
                end = output.index(b"\n", at)
                oid, _, size = output[at:end].split()
                at = end + int(size) + 2
                yield oid.decode(), output[end + 1 : at - 1]

    def add(self, files: Mapping[str, bytes], subject: str, replaced: AbstractSet[str] = frozenset()) -> dict[str, str]:
        """Add files to the index on the remote; those that it has stay as they are.

        Args:
            files: Content by path.
            subject: First line of the message of the commit.
            replaced: Paths of files that are replaced if the index has them.

        Returns:
            The object id of each file of the index, by its path.

        Raises:
            RemoteError: The remote refuses, or cannot be reached.
        """

        def make(tip: str | None) -> str | None:
            known = self._files(tip) if tip else {}
            new = {path: data for path, data in files.items() if path not in known or path in replaced}
            return self._commit(tip, new, subject) if new else None

        with self._bare.locked():
            self._ref.add(make)
            return self._listed()

    def remove(self, paths: Iterable[str], subject: str) -> dict[str, str]:
        """Remove files of the index on the remote.

        Args:
            paths: Their paths.
            subject: First line of the message of the commit.

        Returns:
            The object id of each file of the index, by its path.

        Raises:
            RemoteError: The remote refuses, or cannot be reached.
        """
        wrong = set(paths)

        def make(tip: str | None) -> str | None:
            there = wrong & self._files(tip).keys() if tip else set()
            return self._commit(tip, dict.fromkeys(there), subject) if there else None

        with self._bare.locked():
            self._ref.add(make)
            return self._listed()

    def _files(self, tip: str) -> dict[str, str]:
        files = {}
        for item in self._bare.run("ls-tree", "-r", "-z", "--full-tree", tip).split(b"\0"):
            if match := _ENTRY.fullmatch(item):
                files[os.fsdecode(match[2])] = match[1].decode()
        return files

    def _commit(self, parent: str | None, files: Mapping[str, bytes | None], subject: str) -> str:
        """Make a commit that adds files to those of another commit, and removes those without content."""
        message = f"{subject} [skip ci]\n".encode()
        ref = f"refs/made/{token_hex(8)}"
        parts = [f"commit {ref}\nmark :1\ncommitter {self._bare.identity()}\ndata {len(message)}\n".encode(), message]
        parts += [f"from {parent}\n".encode()] if parent else []
        for path, data in files.items():
            if data is None:
                parts.append(f"D {path}\n".encode())
            else:
                parts += [f"M 100644 inline {path}\ndata {len(data)}\n".encode(), data, b"\n"]
        parts.append(b"get-mark :1\n")
        commit = self._bare.run("fast-import", "--quiet", data=b"".join(parts)).decode().strip()
        self._bare.run("update-ref", "-d", ref)
        return commit


def _batches(blobs: Iterable[tuple[bytes, int]]) -> Iterator[list[bytes]]:
    """Divide files into batches of limited size, but of at least one file."""
    batch: list[bytes] = []
    total = 0
    for oid, size in blobs:
        if batch and total + size > _AT_ONCE:
            yield batch
            batch, total = [], 0
        batch.append(oid)
        total += size
    if batch:
        yield batch
