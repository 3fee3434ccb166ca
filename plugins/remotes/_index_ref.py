"""An index that is a ref of the git remote: files of the last commit, which every push adds to.

The ref is ``refs/theta/index``. If the remote refuses it, as some hosts refuse all refs but branches and tags, the
branch ``theta/index`` takes its place. Readers look at both. A push never removes a file, and its commit has the last
one as parent, so that git itself refuses the slower of two pushes, which then adds its files to those of the other.
"""

from __future__ import annotations

import os
import random
import re
import time
from secrets import token_hex
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError
from git_theta_ext.interfaces import redacted

from ._index_repository import IndexRepository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_theta_ext.interfaces import GitCommands

REF = "refs/theta/index"
BRANCH = "refs/heads/theta/index"

_ROUNDS = 12
_AT_ONCE = 1 << 24
"""Bytes of files that are read together."""

_FETCH = ("fetch", "--quiet", "--depth=1", "--no-tags", "--prune", "--no-write-fetch-head", "--no-recurse-submodules")
_PUSH = ("push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
_REFSPECS = tuple(f"+{ref}*:{ref}*" for ref in (REF, BRANCH))
_REJECTED = re.compile(r"^!\t[^\t]*\t(.*)$", re.MULTILINE)
_RACE = re.compile(
    r"fetch first|non-fast-forward|cannot lock ref|failed to lock|failed to update ref|incorrect old value"
    r"|already exists|stale info|remote ref updated|needs force",
    re.IGNORECASE,
)
_DAMAGE = re.compile(r"corrupt|bad object|unable to read|not a git repository|missing (blob|tree|commit)|garbage")
_ENTRY = re.compile(rb"100644 blob ([0-9a-f]{40,64})\t(.+)", re.DOTALL)
_NOBODY = "git theta <git-theta@localhost> "


class IndexRef:
    """The index of a git remote.

    Args:
        git: The local repository.
        address: The address of the git remote.
        branch: Whether to use a branch from the start.
    """

    def __init__(self, git: GitCommands, address: str, *, branch: bool = False) -> None:
        self._git = git
        self._address = address
        self._refs = (BRANCH,) if branch else (REF, BRANCH)
        self._local = IndexRepository(git, address)

    def fetch(self) -> dict[str, str]:
        """Bring the index, and return the object id of each file by its path.

        Raises:
            RemoteError: The remote cannot be reached.
        """
        with self._local.locked():
            return self._fetch()

    def _fetch(self) -> dict[str, str]:
        code, _, words = self._local.connect(*_FETCH, self._address, *_REFSPECS)
        if code and _DAMAGE.search(words):
            self._local.renew()
            code, _, words = self._local.connect(*_FETCH, self._address, *_REFSPECS)
        if code == 1 and not words:  # so git says that there is nothing to fetch
            for ref in self._tips():
                self._local.run("update-ref", "-d", ref)
        elif code:
            raise self._local.error(words)
        return self._listed()

    def _listed(self) -> dict[str, str]:
        return {path: oid for tip in self._tips().values() for path, oid in self._files(tip).items()}

    def read(self, oids: Iterable[str], largest: int) -> Iterator[tuple[str, bytes]]:
        """Yield object id and content of files, except those that are missing or have more than ``largest`` bytes.

        Raises:
            RemoteError: The local copy is damaged.
        """
        wanted = "".join(f"{oid}\n" for oid in oids).encode()
        sizes = [line.split() for line in self._local.run("cat-file", "--batch-check", data=wanted).splitlines()]
        blobs = [(line[0], int(line[2])) for line in sizes if line[1:2] == [b"blob"] and int(line[2]) <= largest]
        for batch in _batches(blobs):
            output = self._local.run("cat-file", "--batch", data=b"".join(oid + b"\n" for oid in batch))
            at = 0
            while at < len(output):
                end = output.index(b"\n", at)
                oid, _, size = output[at:end].split()
                at = end + int(size) + 2
                yield oid.decode(), output[end + 1 : at - 1]

    def add(self, files: Mapping[str, bytes], subject: str) -> dict[str, str]:
        """Add files to the index on the remote; those that it has stay as they are.

        Args:
            files: Content by path.
            subject: First line of the message of the commit.

        Returns:
            The object id of each file of the index, by its path.

        Raises:
            RemoteError: The remote refuses, or cannot be reached.
        """
        with self._local.locked():
            self._add(files, subject)
            return self._listed()

    def _add(self, files: Mapping[str, bytes], subject: str) -> None:
        # A mirror clone has the ref itself. Git pushes it after us, and would find that it has changed.
        mirrored = self._git.run("for-each-ref", "--format=%(refname)", REF, check=False)
        refused = [REF] if mirrored else []
        why = ""
        for number in range(_ROUNDS):
            if number:
                time.sleep(random.random() * min(number, 5) / 2)  # noqa: S311 - no secret
                self._fetch()
            tips = self._tips()
            ref = next((ref for ref in (*tips, *self._refs) if ref not in refused), None)
            if ref is None:
                break
            tip = tips.get(ref)
            known = self._files(tip) if tip else {}
            new = {path: data for path, data in files.items() if path not in known}
            if not new:
                return
            commit = self._commit(tip, new, subject)
            reason = self._push(commit, ref)
            if reason is None:
                self._local.run("update-ref", ref, commit)
                return
            if not _RACE.search(reason):
                refused.append(ref)
                why = reason
        else:
            raise RemoteError(
                f"{redacted(self._address)}: other pushes changed the index {_ROUNDS} times during this one",
                hint="git push tries again; uploaded packs are kept",
            )
        raise RemoteError(
            f"{redacted(self._address)} takes no index of parameters: it refuses {' and '.join(refused)}: {why}",
            hint="allow pushes to the branch theta/index",
        )

    def _tips(self) -> dict[str, str]:
        """Return the commits of the index by their refs, as of the last fetch or push."""
        lines = self._local.run("for-each-ref", "--format=%(refname) %(objectname)", REF, BRANCH).decode().splitlines()
        commits = dict(line.split(" ") for line in lines)
        return {ref: commits[ref] for ref in (REF, BRANCH) if ref in commits}

    def _files(self, tip: str) -> dict[str, str]:
        files = {}
        for item in self._local.run("ls-tree", "-r", "-z", "--full-tree", tip).split(b"\0"):
            if match := _ENTRY.fullmatch(item):
                files[os.fsdecode(match[2])] = match[1].decode()
        return files

    def _commit(self, parent: str | None, files: Mapping[str, bytes], subject: str) -> str:
        """Make a commit that adds files to those of another commit."""
        message = f"{subject} [skip ci]\n".encode()
        ref = f"refs/made/{token_hex(8)}"
        parts = [f"commit {ref}\nmark :1\ncommitter {self._identity()}\ndata {len(message)}\n".encode(), message]
        parts += [f"from {parent}\n".encode()] if parent else []
        for path, data in files.items():
            parts += [f"M 100644 inline {path}\ndata {len(data)}\n".encode(), data, b"\n"]
        parts.append(b"get-mark :1\n")
        commit = self._local.run("fast-import", "--quiet", data=b"".join(parts)).decode().strip()
        self._local.run("update-ref", "-d", ref)
        return commit

    def _identity(self) -> str:
        try:
            return self._local.run("var", "GIT_COMMITTER_IDENT").decode(errors="replace").strip()
        except RemoteError:
            return f"{_NOBODY}{int(time.time())} +0000"

    def _push(self, commit: str, ref: str) -> str | None:
        """Push a commit, and return why the remote refuses it.

        Raises:
            RemoteError: The remote cannot be reached.
        """
        code, output, words = self._local.connect(*_PUSH, self._address, f"{commit}:{ref}")
        if code == 0:
            return None
        if match := _REJECTED.search(output):
            return match[1]
        raise self._local.error(words)


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
