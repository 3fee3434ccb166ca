"""Upload packs in threads, while others are made, and then their index entries."""

from __future__ import annotations

from functools import partial
from secrets import randbelow
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.remote_keys import index_key, pack_key
from git_theta_ext.records import dataclass
from git_theta_ext.store.packs.reader import read_head_of
from git_theta_ext.transfer.heads import save_head
from git_theta_ext.transfer.pool import Pool
from git_theta_ext.transfer.remote_index import read_head
from git_theta_ext.transfer.retry import retried

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.meter import Tally
    from git_theta_ext.transfer.remote_index import OpenedRemote

_UPLOADS = 8
_SAMPLE = 1 << 16
_WAITING = 64
"""Packs that are being uploaded or wait for it. They are in the store, so they take no memory."""


@dataclass(frozen=True)
class PushPlan:
    """The packs to upload.

    Attributes:
        packs: Names and sizes in bytes of the packs that the remote lacks, largest first.
        entries: Names of packs that are on the remote without an index entry.
        relied_on: Names of all packs that the pushed tensors are decoded from on the remote after the upload.
    """

    packs: tuple[tuple[str, int], ...] = ()
    entries: tuple[str, ...] = ()
    relied_on: frozenset[str] = frozenset()

    @property
    def nbytes(self) -> int:
        """Number of bytes to upload."""
        return sum(size for _, size in self.packs)


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True)
class Going:
    """Tensors that are about to be pushed.

    Attributes:
        digests: What the remote lacks: tensors, bundles and skeletons.
        there: Digests that the remote has. What is pushed may depend on them.
        stored: The tensors and skeletons that the remote lacks, with what each of them is stored as, which ``digests``
            has.
        upload: Takes digests of tensors that will not be recoded any more, to upload their packs in other threads. It
            raises the error of an upload that has failed; so call it now and then, if need be without digests.
    """

    digests: AbstractSet[Digest]
    there: Container[Digest]
    stored: Mapping[Digest, Digest]
    upload: Callable[[Iterable[Digest]], None] = _nothing


def _no_way(_: AbstractSet[Digest]) -> AbstractSet[Digest]:
    return frozenset()


@dataclass(frozen=True)
class PushSteps:
    """Steps that a caller adds to a push.

    Attributes:
        prepare: Called before packs are made; may recode the tensors, while ``Going.upload`` uploads others.
        obtain: Called with the digests that neither the store nor the remote has. It may bring them to either, and
            returns those that the push leaves out.
    """

    prepare: Callable[[Going], None] = _nothing
    obtain: Callable[[AbstractSet[Digest]], AbstractSet[Digest]] = _no_way


class Uploads:
    """Uploads packs in a ``with`` block, in threads, while more packs are made. If one side fails, the other stops.

    That a remote has a pack already proves nothing, so a part of it is read back.

    Args:
        store: The store that has the packs.
        remote: The remote.
        tally: Counts what is uploaded.

    Attributes:
        names: Names of the packs that are to be uploaded.
    """

    def __init__(self, store: Store, remote: OpenedRemote, tally: Tally) -> None:
        self.names: set[str] = set()
        self._store = store
        self._remote = remote
        self._tally = tally
        self._pool = Pool(_UPLOADS, tally, [remote])
        self._room = BoundedSemaphore(_WAITING)
        self._begun: dict[str, Future[Path | None]] = {}

    def add(self, name: str) -> None:
        """Upload a pack, unless that has begun; wait if many packs are waiting already.

        Raises:
            ThetaError: An upload failed; see ``finish``.
        """
        self.check()
        if name not in self._begun:
            self.names.add(name)
            path = self._store.path_of(name)
            self._tally.expect(pack_key(name), path.stat().st_size)
            self._room.acquire()
            self._begun[name] = self._pool.submit(partial(self._send, name, path))
            self._begun[name].add_done_callback(lambda _: self._room.release())

    def check(self) -> None:
        """Raise the error of an upload that failed, if one has failed."""
        self._pool.check()

    def finish(self, plan: PushPlan) -> frozenset[str]:
        """Upload what is left of a plan, and then the index entries.

        Returns:
            The names of packs under which the remote has other bytes. If there are none, the remote has all tensors
            that the plan was made for.

        Raises:
            RemoteError: An upload failed three times. Packs uploaded before are complete, and the next push does not
                repeat them; it adds their index entries.
        """
        names = [*(name for name, _ in plan.packs), *plan.entries]
        self.names.update(names)
        for name in names:
            self.add(name)
        heads = {name: self._pool.result(self._begun[name]) for name in names}
        if entries := {index_key(name): head for name, head in heads.items() if head is not None}:
            retried(lambda: self._remote.plugin.publish(entries))
        for name in names:
            self._tally.finish(pack_key(name))
        return frozenset(name for name, head in heads.items() if head is None)

    def _send(self, name: str, path: Path) -> Path | None:
        """Upload a pack, and return the path of its head; None if the remote has other bytes under its name."""
        head = send_pack(self._remote, name, path)
        if head is None:
            return None
        self._tally.finish_unreported(pack_key(name))
        return save_head(self._store.root, self._remote.url, name, head)

    def __enter__(self) -> Self:
        """Begin."""
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for uploads in progress; after an error they stop."""
        self._pool.__exit__(kind, error, traceback)


def send_pack(remote: OpenedRemote, name: str, path: Path) -> bytes | None:
    """Upload a pack, and return its head; None if the remote has other bytes under its name.

    Raises:
        RemoteError: The upload failed three times.
    """
    head = read_head_of(path)
    if not retried(lambda: remote.plugin.put(pack_key(name), path)) and not _same(remote, name, path, head):
        return None
    return head


def keep(remote: OpenedRemote, names: Iterable[str]) -> set[str]:
    """Protect packs on a remote from garbage collection, and return the names of the packs that it has.

    Raises:
        RemoteError: It cannot be reached.
    """
    keys = {pack_key(name): name for name in names}
    return {keys[key] for key in retried(lambda: remote.plugin.keep(keys))} if keys else set()


def _same(remote: OpenedRemote, name: str, path: Path, head: bytes) -> bool:
    """Return whether a pack on a remote has the head of a local pack, and the same bytes at a random place."""
    size = path.stat().st_size
    start = randbelow(max(0, size - _SAMPLE) + 1)
    with path.open("rb") as file:
        file.seek(start)
        sample = file.read(_SAMPLE)
    try:
        if read_head(remote, name).data != head:
            return False
        return retried(lambda: remote.plugin.get(pack_key(name), start, start + len(sample))) == sample
    except (CorruptError, MissingError):
        return False
