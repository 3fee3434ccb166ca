"""Write commits anew with other trees and parents: all else is the same to the byte, but signatures are dropped.

``git fast-import`` makes the trees, but not the commits: it knows no headers that other programs add, refuses authors
without an address, and ends a message at a zero byte.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import zlib
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.objects import read_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.git.repository import Repository

_SIGNATURES = frozenset({b"gpgsig", b"gpgsig-sha256", b"mergetag"})
_TREE = re.compile(rb"tree ([0-9a-f]+)\n")
_PARENTS = re.compile(rb"(?:parent [0-9a-f]+\n)*")
_COMMIT = 1
"""The type of commits in a pack (gitformat-pack(5))."""


def write_commits(repo: Repository, carriers: Mapping[str, str]) -> dict[str, str]:
    """Write new commits.

    Args:
        repo: The repository.
        carriers: Old commits, parents first, to commits with the new trees.

    Returns:
        Old to new ids of the commits.

    Raises:
        RepositoryError: Git cannot read or write a commit.
    """
    ids: dict[str, str] = {}
    written: list[tuple[bytes, int]] = []
    olds, news = read_objects(repo, carriers), read_objects(repo, carriers.values())
    for pair, (old, content), (carrier, with_tree) in zip(carriers.items(), olds, news, strict=False):
        tree = _TREE.match(with_tree)
        if pair != (old, carrier) or tree is None:
            break
        new = recommitted(content, tree[1], ids)
        head = b"commit %d\0" % len(new)
        ids[old] = hashlib.new(repo.object_format, head + new, usedforsecurity=False).hexdigest()
        if ids[old] != old:
            written.append((zlib.compress(new, 1), len(new)))
    if len(ids) < len(carriers):
        raise RepositoryError("git cannot read a commit that it has just written", hint="git fsck")
    if written:
        _store(repo, written)
    return ids


def recommitted(content: bytes, tree: bytes, ids: Mapping[str, str]) -> bytes:
    """Return a commit with another tree and other parents, without signatures; the same one if these are the same.

    Args:
        content: The commit.
        tree: Id of the tree.
        ids: Old to new ids of commits, of all parents.

    Raises:
        RepositoryError: The commit is malformed, or a parent is not among ``ids``.
    """
    start = _TREE.match(content)
    parents = _PARENTS.match(content, start.end() if start else 0)
    if start is None or parents is None:
        raise RepositoryError("a commit has no tree", hint="git fsck")
    olds = [line[7:].decode() for line in parents[0].splitlines()]
    if absent := [old for old in olds if old not in ids]:
        raise RepositoryError(f"git fast-export did not print the commit {absent[0]}", hint="git fsck")
    news = b"".join(b"parent %s\n" % ids[old].encode() for old in olds)
    if tree == start[1] and news == parents[0]:
        return content
    head, blank, message = content[parents.end() :].partition(b"\n\n")
    return b"tree %s\n" % tree + news + b"\n".join(_without_signatures(head.split(b"\n"))) + blank + message


def _without_signatures(lines: Sequence[bytes]) -> Iterator[bytes]:
    dropped = False
    for line in lines:
        if not line.startswith(b" "):  # a line that starts so belongs to the header before it
            dropped = line.partition(b" ")[0] in _SIGNATURES
        if not dropped:
            yield line


def _store(repo: Repository, commits: Sequence[tuple[bytes, int]]) -> None:
    """Store commits as a pack, given their compressed contents and their sizes."""
    digest = hashlib.new(repo.object_format, usedforsecurity=False)
    words = ("git", "index-pack", "--stdin")
    with subprocess.Popen(
        words, cwd=repo.folder, env=repo.environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        try:
            entries = (_entry_head(nbytes) + data for data, nbytes in commits)
            for piece in chain([b"PACK" + (2).to_bytes(4, "big") + len(commits).to_bytes(4, "big")], entries):
                digest.update(piece)
                process.stdin.write(piece)
            process.stdin.write(digest.digest())
            process.stdin.close()
        except BrokenPipeError:
            pass  # the exit code says the same
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RepositoryError("git index-pack cannot store the commits", hint="git fsck")


def _entry_head(nbytes: int) -> bytes:
    """Return type and size of an object in a pack: 4 bits of the size, then 7 bits in each further byte."""
    head = bytearray([_COMMIT << 4 | nbytes & 0xF])
    rest = nbytes >> 4
    while rest:
        head[-1] |= 0x80
        head.append(rest & 0x7F)
        rest >>= 7
    return bytes(head)
