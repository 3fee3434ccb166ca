"""Upload packs in threads, and then their index entries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from secrets import randbelow
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.remote_keys import index_key, pack_key
from git_theta_ext.store.packs.reader import read_head_of
from git_theta_ext.transfer.remote_index import read_head, save_head
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_UPLOADS = 8
_SAMPLE = 1 << 16


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


@dataclass(frozen=True)
class Going:
    """Tensors that are about to be pushed.

    Attributes:
        digests: Digests that the remote lacks.
        there: Digests that the remote has. Pushed tensors may depend on them.
    """

    digests: AbstractSet[Digest]
    there: AbstractSet[Digest]


def _nothing(_: Going) -> None:
    pass


def _no_way(_: AbstractSet[Digest]) -> AbstractSet[Digest]:
    return frozenset()


@dataclass(frozen=True)
class PushSteps:
    """Steps that a caller adds to a push.

    Attributes:
        prepare: Called before packs are made; may recode the tensors.
        obtain: Called with the digests that neither the store nor the remote has. It may bring them to either, and
            returns those that the push leaves out.
    """

    prepare: Callable[[Going], None] = _nothing
    obtain: Callable[[AbstractSet[Digest]], AbstractSet[Digest]] = _no_way


def upload(
    store: Store, remote: OpenedRemote, plan: PushPlan, advance: Callable[[int], None] = lambda _: None
) -> frozenset[str]:
    """Upload the packs of a plan.

    That a remote has a pack already proves nothing, so a part of it is read back.

    Args:
        store: The store that the plan was made for.
        remote: The remote that the plan was made for.
        plan: The result of ``plan_push``.
        advance: Called with the size of each uploaded pack, out of ``plan.nbytes``.

    Returns:
        The names of packs under which the remote has other bytes. If there are none, the remote has all tensors that
        the plan was made for.

    Raises:
        RemoteError: An upload failed three times. Packs uploaded before are complete, and the next push does not repeat
            them; it adds their index entries.
    """

    def send(name: str) -> Path | None:
        path = store.path_of(name)
        head = read_head_of(path)
        if not retried(lambda: remote.plugin.put(pack_key(name), path)) and not _same(remote, name, path, head):
            return None
        return save_head(store.root, remote.url, name, head)

    sizes = dict(plan.packs)
    names = [*sizes, *plan.entries]
    entries: dict[str, Path] = {}
    different = set()
    with ThreadPoolExecutor(_UPLOADS) as executor:
        for name, entry in zip(names, ordered_map(executor, send, names, 2 * _UPLOADS), strict=True):
            if entry is None:
                different.add(name)
            else:
                entries[index_key(name)] = entry
            advance(sizes.get(name, 0))
    if entries:
        retried(lambda: remote.plugin.publish(entries))
    return frozenset(different)


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
    start = randbelow(max(1, size - _SAMPLE))
    with path.open("rb") as file:
        file.seek(start)
        sample = file.read(_SAMPLE)
    try:
        if read_head(remote, name) != head:
            return False
        return retried(lambda: remote.plugin.get(pack_key(name), start, start + len(sample))) == sample
    except (CorruptError, MissingError):
        return False
