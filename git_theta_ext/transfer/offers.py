"""Find out which packs of the remotes have the tensors that are missing here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, ThetaError
from git_theta_ext.store.deltas.chains import ancestors, closure, shallowest, smallest
from git_theta_ext.store.locations import Location, filtered
from git_theta_ext.store.parts import chosen_bundles, stored_as
from git_theta_ext.store.verification.damaged_files import DamagedFiles
from git_theta_ext.transfer.extracts import serves_ranges
from git_theta_ext.transfer.portions import portion
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.portions import Portion
    from git_theta_ext.transfer.remote_index import OpenedRemote, RemoteIndex


class Offers:
    """The packs of the remotes. The index of a remote is read once, and only if the remotes before it lack something.

    Args:
        store: The store that lacks tensors.
        remotes: The remotes, in order of preference.

    Attributes:
        remotes: By pack name, the remotes read so far that have the pack; damaged packs are among them.
        failures: What went wrong so far.
    """

    def __init__(self, store: Store, remotes: Sequence[OpenedRemote]) -> None:
        self._store = store
        self._all = tuple(remotes)
        self._unread = list(remotes)
        self._indexes: list[RemoteIndex] = []
        self._usable: set[str] = set()
        self.remotes: dict[str, list[OpenedRemote]] = {}
        self.failures: list[ThetaError] = []
        self._whole: set[str] = set()
        self._files = DamagedFiles(store)

    def have(self, missing: Iterable[Digest]) -> bool:
        """Return whether no digest is missing after a fetch, as ``choose`` does.

        It is called for each file of a checkout. Whether the remotes have everything is answered without the store.
        """
        wanted, look_up = set(missing), _sound(self.locations, self._store)
        stored = set(self.stored_as(wanted).values())
        return stored <= shallowest(closure(stored, look_up)).keys() or self._choose(wanted)[1]

    def choose(self, missing: Iterable[Digest]) -> tuple[dict[str, Portion], bool]:
        """Choose what to fetch of which packs. Remotes are read until no digest is missing.

        Returns:
            What to fetch by pack name, and whether no digest is missing afterwards; see ``choose_packs``.
        """
        wanted = set(missing)
        while True:
            packs, complete = self._choose(wanted)
            headers = {name: self._header(name) for name in packs}
            gone = [name for name, header in headers.items() if header is None]
            if not gone:
                break
            for name in gone:
                self.forget(name)
        portions = {name: self._portion(name, header, packs[name]) for name, header in headers.items() if header}
        return portions, complete

    def locations(self, digests: set[Digest]) -> Locations:
        """Return the locations of some digests on the remotes that were read so far."""
        found: Locations = {}
        for index in self._indexes:
            for digest, held in index.heads.locations(digests).items():
                usable = tuple([location for location in held if location.pack in self._usable])
                if usable:
                    found[digest] = tuple(dict.fromkeys(found[digest] + usable)) if digest in found else usable
        return found

    def stored_as(self, digests: set[Digest]) -> dict[Digest, Digest]:
        """Return what each of some tensors is stored as on the remotes that were read so far: a bundle, or itself."""
        first, *others = [index.heads.bundles_of(digests) for index in self._indexes] or [dict.fromkeys(digests, ())]
        bundles = dict(first)
        for several in others:
            bundles = {digest: tuple(dict.fromkeys((*bundles[digest], *several[digest]))) for digest in bundles}
        look_up = _sound(self.locations, self._store)
        return stored_as(bundles, chosen_bundles(bundles, lambda some: shallowest(offered(some, look_up, self._store))))

    def read_all(self) -> None:
        """Read the indexes of all remotes."""
        while self._unread:
            self._read_next()

    def pack_bytes(self, name: str) -> int:
        """Return the size of a pack in bytes; 0 if it is gone."""
        header = self._header(name)
        return 0 if header is None else header.pack_bytes

    def _read_next(self) -> None:
        remote = self._unread.pop(0)
        try:
            index = read_remote_index(self._store, remote)
        except ThetaError as error:
            self.failures.append(error)
            return
        self._indexes.append(index)
        self._usable |= index.packs
        for name in index.packs | index.damaged:
            self.remotes.setdefault(name, []).append(remote)

    def _choose(self, wanted: set[Digest]) -> tuple[dict[str, set[int]], bool]:
        packs, complete = self._packs_with(wanted)
        while self._unread and not (complete and packs):
            self._read_next()
            packs, complete = self._packs_with(wanted)
        if not packs and (damaged := self.remotes.keys() - self._usable):
            # They may have been replaced, and every download is verified.
            self._usable |= damaged
            packs, complete = self._packs_with(wanted)
        return packs, complete

    def _packs_with(self, wanted: set[Digest]) -> tuple[dict[str, set[int]], bool]:
        return choose_packs(self.stored_as(wanted).values(), self.locations, self._store)

    def _header(self, name: str) -> PackHeader | None:
        headers = (index.heads.header(name) for index in self._indexes if name in index.packs | index.damaged)
        return next((header for header in headers if header is not None), None)

    def _portion(self, name: str, header: PackHeader, numbers: set[int]) -> Portion:
        whole = name in self._whole or not any(map(serves_ranges, self.remotes[name]))
        return portion(header, numbers, whole=whole)

    def only_whole(self, pack: str) -> None:
        """Choose no ranges of a pack from now on."""
        self._whole.add(pack)

    def forget(self, pack: str) -> None:
        """Leave out a pack from now on."""
        self._usable.discard(pack)
        del self.remotes[pack]

    def lack(self, missing: set[Digest], wanted: int) -> ThetaError:
        """Return the error that says that digests, out of so many, are neither here nor on a remote."""
        searched = ", ".join(f"{remote.name} ({remote.url})" for remote in self._all)
        where = f"searched {searched}" if self._all else "no remote is configured"
        count = f"{len(missing)} of {wanted} tensors and file layouts"
        message = f"{count} are not in the store, including {min(missing)}; {where}"
        damaged = self._files.behind(missing)
        if damaged:
            message += f"; damaged packs of this store: {shortlist(damaged, 3)}"
        if self.failures:
            message += "; " + "; ".join(dict.fromkeys(failure.message for failure in self.failures))
        unreachable = [failure for failure in self.failures if isinstance(failure, RemoteError)]
        if unreachable:
            return RemoteError(message, hint=unreachable[0].hint or "try again; downloaded packs are kept")
        if damaged:
            return MissingError(message, hint="git theta fsck --full --repair")
        poor = any(isinstance(failure, CorruptError) for failure in self.failures)
        command = "git theta push --all --verify" if poor else "git theta push --all"
        return MissingError(
            message, hint=f"run {command} in a clone that has them; git theta fsck lists the files that need them"
        )


def choose_packs(
    missing: Iterable[Digest], look_up: Callable[[set[Digest]], Locations], store: Store
) -> tuple[dict[str, set[int]], bool]:
    """Choose packs with the missing digests and all that these depend on.

    Args:
        missing: The missing digests.
        look_up: Returns the locations of digests in the available packs.
        store: The store. Bases that it has are not fetched, nor are entries that it knows to be bad.

    Returns:
        Numbers of the needed entries by pack name, and whether no digest is missing afterwards.
    """
    wanted = set(missing)
    best = smallest(offered(wanted, look_up, store))
    intact = functools.cache(store.has_intact)
    chosen: dict[str, set[int]] = {}
    for digest in ancestors(wanted & set(best), best):
        name = best[digest].pack
        if name and not intact(name):
            chosen.setdefault(name, set()).add(best[digest].entry)
    return chosen, wanted <= set(best)


def offered(wanted: AbstractSet[Digest], look_up: Callable[[set[Digest]], Locations], store: Store) -> Locations:
    """Return the locations of wanted digests, and of all that they depend on, in the available packs.

    Bases that the store has are in a pack without a name, as are deltas of the store whose bases are missing: only
    their bases have to be fetched.

    Args:
        wanted: The digests that the store lacks.
        look_up: Returns the locations of digests in the available packs.
        store: The store.
    """
    remote, local = _sound(look_up, store), _sound(store.locations, store)

    def locate(digests: set[Digest]) -> Locations:
        here = local(digests)
        complete = (set(shallowest(here)) - wanted) & digests
        found = remote(digests - complete)
        for digest in digests & here.keys():
            if digest in complete:
                found[digest] = (Location("", "", 0, 0),)
            else:
                stranded = (Location("", "", 0, 0, location.bases) for location in here[digest])
                found[digest] = (*found.get(digest, ()), *stranded)
        return found

    return closure(wanted, locate)


def _sound(look_up: Callable[[set[Digest]], Locations], store: Store) -> Callable[[set[Digest]], Locations]:
    """Return a function that leaves out entries that a store knows to be useless; see ``Store.rejected``."""
    rejected = store.rejected()
    if not rejected:
        return look_up
    return lambda digests: filtered(look_up(digests), lambda digest, location: (location.pack, digest) not in rejected)
