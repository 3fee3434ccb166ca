"""Packs on their way out: uploaded in threads, each followed by its index entry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.model.remote_keys import index_key, pack_key
from git_theta_ext.store.packs.reader import read_head_of
from git_theta_ext.transfer.remote_index import heads_folder, read_head, save_head
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_UPLOADS = 8


@dataclass(frozen=True)
class PushPlan:
    """What an upload takes.

    Attributes:
        packs: Names and sizes in bytes of the packs that the remote lacks, largest first.
        entries: Names of packs that are there without an index entry.
        relied_on: Names of the packs that what is pushed is decoded from on the remote, once the plan is carried out.
    """

    packs: tuple[tuple[str, int], ...] = ()
    entries: tuple[str, ...] = ()
    relied_on: frozenset[str] = frozenset()

    @property
    def nbytes(self) -> int:
        """Bytes to upload."""
        return sum(size for _, size in self.packs)


@dataclass(frozen=True)
class Going:
    """What is about to go to a remote.

    Attributes:
        digests: That it lacks.
        there: That it has, and that may be leaned on.
    """

    digests: AbstractSet[Digest]
    there: AbstractSet[Digest]


def _nothing(_: Going) -> None:
    pass


def _no_way(_: AbstractSet[Digest]) -> AbstractSet[Digest]:
    return frozenset()


@dataclass(frozen=True)
class PushSteps:
    """What a push may have done on its way.

    Attributes:
        prepare: May recode what is about to go.
        obtain: May bring here or there what is on neither side; returns those of it that are to be left out.
    """

    prepare: Callable[[Going], None] = _nothing
    obtain: Callable[[AbstractSet[Digest]], AbstractSet[Digest]] = _no_way


def upload(store: Store, remote: OpenedRemote, plan: PushPlan, advance: Callable[[int], None] = lambda _: None) -> None:
    """Carry out a plan; on return the remote holds all that it was made for.

    Args:
        store: As for the plan.
        remote: As for the plan.
        plan: From ``plan_push``.
        advance: Told the bytes of each pack that is done, out of ``plan.nbytes``.

    Raises:
        RemoteError: An upload failed three times, or the remote holds something else under a pack's name. What was
            uploaded by then is whole, and the next push goes on from there.
    """

    def send(name: str) -> None:
        path = store.path_of(name)
        head = read_head_of(path)
        if not retried(lambda: remote.plugin.put(pack_key(name), path)) and not _has_head(remote, name, head):
            raise RemoteError(
                f"{remote.url} has a different file under the name of pack {name}",
                hint=f"remove {pack_key(name)} on the remote and push again",
            )
        entry = save_head(heads_folder(store.root, remote.url), name, head)
        retried(lambda: remote.plugin.put(index_key(name), entry))

    sizes = dict(plan.packs)
    names = [*sizes, *plan.entries]
    with ThreadPoolExecutor(_UPLOADS) as executor:
        for name, _ in zip(names, ordered_map(executor, send, names, 2 * _UPLOADS), strict=True):
            advance(sizes.get(name, 0))


def keep(remote: OpenedRemote, names: Iterable[str]) -> set[str]:
    """Protect packs on a remote from a garbage collection there, and return the names of those that it has.

    Raises:
        RemoteError: It cannot be reached.
    """
    keys = {pack_key(name): name for name in names}
    return {keys[key] for key in retried(lambda: remote.plugin.keep(keys))} if keys else set()


def _has_head(remote: OpenedRemote, name: str, head: bytes) -> bool:
    try:
        return read_head(remote, name) == head
    except (CorruptError, MissingError):
        return False
