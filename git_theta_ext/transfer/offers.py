"""Find out which packs of the remotes have the tensors that are missing here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, ThetaError
from git_theta_ext.store.deltas.chains import shallowest, smallest
from git_theta_ext.store.locations import Location, in_packs
from git_theta_ext.store.verification.damaged_files import DamagedFiles
from git_theta_ext.transfer.extracts import serves_ranges
from git_theta_ext.transfer.portions import portion
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.portions import Portion
    from git_theta_ext.transfer.remote_index import OpenedRemote


class Offers:
    """The packs of the remotes. The index of a remote is read once, and only if the remotes before it lack something.

    Args:
        store: The store that lacks tensors.
        remotes: The remotes, in order of preference.

    Attributes:
        remotes: By pack name, the remotes read so far that have the pack.
        failures: What went wrong so far.
    """

    def __init__(self, store: Store, remotes: Sequence[OpenedRemote]) -> None:
        self._store = store
        self._all = tuple(remotes)
        self._unread = list(remotes)
        self._headers: dict[str, PackHeader] = {}
        self._damaged: dict[str, PackHeader] = {}
        self.remotes: dict[str, list[OpenedRemote]] = {}
        self.failures: list[ThetaError] = []
        self._whole: set[str] = set()
        self._files = DamagedFiles(store)
        self._obtainable: set[Digest] = set()

    def have(self, missing: Iterable[Digest]) -> bool:
        """Return whether no digest is missing after a fetch, as ``choose`` does.

        It may be called for each file of a checkout: what the remotes have is looked through once.
        """
        wanted = set(missing)
        if wanted <= self._obtainable:
            return True
        complete = self.choose(wanted)[1]
        offered, local = _offered(set(), self._headers, self._store)
        self._obtainable = shallowest(offered).keys() - local
        return complete

    def choose(self, missing: Iterable[Digest]) -> tuple[dict[str, Portion], bool]:
        """Choose what to fetch of which packs. Remotes are read until no digest is missing.

        Returns:
            What to fetch by pack name, and whether no digest is missing afterwards; see ``choose_packs``.
        """
        wanted = set(missing)
        packs, complete = choose_packs(wanted, self._headers, self._store)
        while self._unread and not (complete and packs):
            remote = self._unread.pop(0)
            try:
                index = read_remote_index(self._store, remote)
            except ThetaError as error:
                self.failures.append(error)
                continue
            for name, header in {**index.headers, **index.damaged}.items():
                (self._headers if name in index.headers else self._damaged).setdefault(name, header)
                self.remotes.setdefault(name, []).append(remote)
            packs, complete = choose_packs(wanted, self._headers, self._store)
        if not packs and self._damaged:
            # They may have been replaced, and every download is verified.
            self._headers = {**self._damaged, **self._headers}
            self._damaged = {}
            packs, complete = choose_packs(wanted, self._headers, self._store)
        return {name: self._portion(name, numbers) for name, numbers in packs.items()}, complete

    def _portion(self, name: str, numbers: set[int]) -> Portion:
        whole = name in self._whole or not any(map(serves_ranges, self.remotes[name]))
        return portion(self._headers[name], numbers, whole=whole)

    def only_whole(self, pack: str) -> None:
        """Choose no ranges of a pack from now on."""
        self._whole.add(pack)

    def forget(self, pack: str) -> None:
        """Leave out a pack from now on."""
        del self._headers[pack], self.remotes[pack]

    def lack(self, missing: set[Digest], wanted: int) -> ThetaError:
        """Return the error that says that digests, out of so many, are neither here nor on a remote."""
        searched = ", ".join(f"{remote.name} ({remote.url})" for remote in self._all)
        where = f"searched {searched}" if self._all else "no remote is configured"
        message = f"{len(missing)} of {wanted} tensors are not in the store, including {min(missing)}; {where}"
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
    missing: Iterable[Digest], headers: Mapping[str, PackHeader], store: Store
) -> tuple[dict[str, set[int]], bool]:
    """Choose packs with the missing digests and all that these depend on.

    Args:
        missing: The missing digests.
        headers: Headers of the available packs, by name.
        store: The store. Bases that it has are not fetched, nor are entries that it knows to be bad.

    Returns:
        Numbers of the needed entries by pack name, and whether no digest is missing afterwards.
    """
    wanted = set(missing)
    offered, local = _offered(wanted, headers, store)
    best = smallest(offered)
    intact = functools.cache(store.has_intact)
    chosen: dict[str, set[int]] = {}
    todo, seen = wanted & set(best), set(local)
    while todo:
        digest = todo.pop()
        seen.add(digest)
        name = best[digest].pack
        if name and not intact(name):
            chosen.setdefault(name, set()).add(best[digest].entry)
        todo |= set(best[digest].bases) - seen
    return chosen, wanted <= set(best)


def _offered(
    wanted: AbstractSet[Digest], headers: Mapping[str, PackHeader], store: Store
) -> tuple[Locations, set[Digest]]:
    """Return what packs have, with wanted deltas of the store whose bases are missing; and the bases in the store."""
    rejected = store.rejected()
    bases = {base for header in headers.values() for entry in header.entries for base in entry.bases}
    here = store.locations(bases | wanted)
    local = set(shallowest(here)) - wanted
    offered = in_packs(headers, local, bad=rejected)
    for digest in set(here) - local:
        # A local delta whose base is missing: only the base has to be fetched.
        stranded = (
            Location("", "", 0, 0, location.bases)
            for location in here[digest]
            if (location.pack, digest) not in rejected
        )
        offered[digest] = (*offered.get(digest, ()), *stranded)
    return offered, local
