"""Fetch git blobs by their object ids, those of several threads in one request."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, ThetaError

from ._batches import Batches
from ._parts import Parts, total
from ._scratch import Scratch, pipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.interfaces import GitCommands

    from ._parts import Part

REQUEST = 1 << 28
"""Bytes of blobs that are fetched together, unless one of them is larger."""

_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--stdin")
_REFS = ("refs/theta/packs", "refs/heads/theta/packs")
_ALL = "".join(f"+{ref}*:{ref}*\n" for ref in _REFS).encode()
_ABSENT = re.compile(r"not our ref ([0-9a-f]{40,64})")
_BY_REF_ONLY = re.compile(r"unadvertised object")
_LOOK_SECONDS = 0.2
_LEAST_MEMORY = 1 << 29
_ROOM = 1 << 20
"""Bytes of a scratch repository besides its blobs, for each of them."""


class Blobs:
    """The blobs of a git remote.

    Args:
        git: The local repository.
        address: The address of the git remote.
        options: Arguments of git before every command.
    """

    def __init__(self, git: GitCommands, address: str, options: tuple[str, ...]) -> None:
        self._scratch = partial(Scratch, git, address, options)
        self._arrivals = _Arrivals()
        requests = _Requests(self._scratch, self._arrivals.distribute)
        self._batches: Batches[Parts, Scratch] = Batches(requests.fetch, REQUEST, total)
        self._recent: deque[tuple[Part, Scratch]] = deque()
        self._lock = Lock()

    def bring(self, parts: Parts, arrived: Callable[[int], None], *, keep: bool = False) -> Scratch:
        """Fetch some blobs, and return a repository that has them until it is forgotten.

        Args:
            parts: The blobs.
            arrived: Called with the number of their bytes that have arrived, in any thread.
            keep: Whether some of their bytes may be needed again soon.

        Raises:
            CorruptError: A blob has another size.
            MissingError: The remote lacks a blob.
            RemoteError: The remote cannot be reached.
        """
        with self._lock:
            held = {part: scratch for part, scratch in self._recent if part in parts}
        if len(set(held.values())) == 1 and set(held) == set(parts):
            return next(iter(held.values()))
        with self._arrivals.expected(parts, arrived):
            scratch = self._batches.ask(parts)
        if keep:
            with self._lock:
                self._recent.extend((part, scratch) for part in parts)
                while total([part for part, _ in self._recent]) > REQUEST and len(self._recent) > 1:
                    self._recent.popleft()
        return scratch

    def kept(self) -> str:
        """Return the ref that keeps the blobs, with its commit, as git lists it; nothing if the remote has none.

        Raises:
            RemoteError: It cannot be reached.
        """
        bare = self._scratch().bare
        code, output, words = bare.connect(("ls-remote", "--quiet"), *_REFS)
        if code:
            raise bare.error(words)
        return output.strip()


class _Arrivals:
    """Tells those who wait for blobs how much of them has arrived."""

    def __init__(self) -> None:
        self._waiting: dict[Parts, Callable[[int], None]] = {}
        self._lock = Lock()

    @contextmanager
    def expected(self, parts: Parts, arrived: Callable[[int], None]) -> Iterator[None]:
        """Let a function be called with the number of bytes of some blobs that have arrived, as long as it is needed.

        It may refer to the remote, which would otherwise be kept, with its repositories, by what it refers to.
        """
        with self._lock:
            self._waiting[parts] = arrived
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(parts, None)

    def distribute(self, groups: Sequence[Parts], nbytes: int) -> None:
        """Say of each group of blobs how much of it has arrived, as if they arrived one after another."""
        for group in groups:
            with self._lock:
                arrived = self._waiting.get(group)
            if arrived is not None:
                arrived(min(nbytes, total(group)))
            nbytes = max(0, nbytes - total(group))


class _Requests:
    """Requests for blobs, one at a time; all blobs come with the first one if the server sends no single objects."""

    def __init__(self, scratch: Callable[[], Scratch], arrived: Callable[[Sequence[Parts], int], None]) -> None:
        self._scratch = scratch
        self._arrived = arrived
        self._everything: Scratch | None = None

    def fetch(self, groups: Sequence[Parts]) -> dict[Parts, Scratch | ThetaError]:
        """Return a repository with each group of blobs, or why there is none."""
        wanted = {part.oid: part for group in groups for part in group}
        try:
            scratch = self._everything or self._request(wanted, partial(self._arrived, groups))
        except CorruptError as error:
            if len(groups) == 1:
                return {groups[0]: error}
            return {key: answer for group in groups for key, answer in self.fetch([group]).items()}
        sizes = scratch.sizes(list(wanted))
        return {group: _problem(scratch, group, sizes) or scratch for group in groups}

    def _request(self, parts: dict[str, Part], arrived: Callable[[int], None]) -> Scratch:
        """Fetch those of some blobs that the remote has."""
        wanted = dict(parts)
        while True:
            scratch = self._scratch()
            if not wanted:
                return scratch
            failure = _run(scratch, "".join(f"{oid}\n" for oid in wanted).encode(), list(wanted.values()), arrived)
            if failure is None:
                return scratch
            absent = _ABSENT.search(failure)
            if absent and absent[1] in wanted:
                del wanted[absent[1]]
            elif _BY_REF_ONLY.search(failure):
                return self._all(arrived)
            else:
                raise scratch.bare.error(failure)

    def _all(self, arrived: Callable[[int], None]) -> Scratch:
        scratch = self._scratch()
        failure = _run(scratch, _ALL, None, arrived)
        if failure:
            raise scratch.bare.error(failure)
        self._everything = scratch
        return scratch


def _problem(scratch: Scratch, parts: Parts, sizes: dict[str, int]) -> ThetaError | None:
    url = scratch.bare.url
    for part in parts:
        if part.oid not in sizes:
            return MissingError(f"{url} has no blob {part.oid}")
        if sizes[part.oid] != part.size:
            return CorruptError(f"{url}: the blob {part.oid} has {sizes[part.oid]} bytes instead of {part.size}")
    return None


def _run(scratch: Scratch, wanted: bytes, parts: list[Part] | None, arrived: Callable[[int], None]) -> str | None:
    """Fetch, and return the messages of git if that fails.

    Args:
        scratch: The repository to fetch into.
        wanted: What to fetch, for the standard input of git.
        parts: The blobs; None if their sizes are not known.
        arrived: Called with the number of bytes that have arrived.

    Raises:
        CorruptError: More arrives than the blobs have.
    """
    most = None if parts is None else total(parts) * 101 // 100 + _ROOM * (len(parts) + 1)
    memory = max(_LEAST_MEMORY, 2 * max((part.size for part in parts or ()), default=0))
    process = scratch.start(*_FETCH, environment={"GIT_ALLOC_LIMIT": str(memory)}, address=True)
    with process:
        try:
            target, _ = pipes(process)
            target.write(wanted)
            target.close()
            while (code := _ended(process)) is None:
                nbytes = scratch.nbytes()
                arrived(nbytes)
                if most is not None and nbytes > most:
                    raise CorruptError(f"{scratch.bare.url} sends more than {most} bytes")
            return scratch.words() or "git fetch failed" if code else None
        except BrokenPipeError as error:
            raise RemoteError(f"{scratch.bare.url}: {scratch.words()}") from error
        finally:
            process.kill()


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Wait a moment, and return the exit code of a process that has ended by then."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_LOOK_SECONDS)
    return None
