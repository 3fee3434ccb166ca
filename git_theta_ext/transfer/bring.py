"""Download chosen packs of remotes into the store, several at a time, and verify them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, RemoteTimeoutError
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.records import dataclass
from git_theta_ext.transfer.arrived import keep_sound
from git_theta_ext.transfer.damaged import note_damaged
from git_theta_ext.transfer.extracts import bring_ranges
from git_theta_ext.transfer.incoming import bring_pack
from git_theta_ext.transfer.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.meter import Tally
    from git_theta_ext.transfer.offers import Offers
    from git_theta_ext.transfer.portions import Portion
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DOWNLOADS = 8


@dataclass
class Fetched:
    """What was downloaded.

    Attributes:
        packs: Number of packs of which something was downloaded.
        nbytes: Number of these bytes.
    """

    packs: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class _Brought:
    """The result of one download.

    Attributes:
        here: Name of the pack in the store that has what was downloaded; None after a failure.
        failures: The errors of remotes.
        source: The remote that sent the whole pack.
    """

    here: str | None
    failures: Sequence[ThetaError]
    source: OpenedRemote | None = None


def bring_packs(store: Store, offers: Offers, packs: Mapping[str, Portion], fetched: Fetched, tally: Tally) -> None:
    """Download packs. What fails is not offered again.

    Args:
        store: The store to download into.
        offers: What the remotes have. Takes the failures.
        packs: What to download of which packs.
        fetched: Counts what was downloaded.
        tally: Takes the bytes, as they arrive.

    Raises:
        StoreError: The store cannot be written.
    """
    names = sorted(packs, key=lambda name: (-packs[name].nbytes, name))
    for name in names:
        tally.expect(pack_key(name), packs[name].nbytes)
    arrived: dict[str, str] = {}
    unanswered: set[str] = set()
    with Pool(_DOWNLOADS, tally, [remote for name in names for remote in offers.remotes[name]]) as pool:
        transfers = [pool.submit(partial(_bring, store, name, packs[name], offers.remotes[name])) for name in names]
        for name, transfer in zip(names, transfers, strict=True):
            brought = pool.result(transfer)
            offers.failures += brought.failures
            if brought.here is not None:
                arrived[brought.here] = name
                fetched.packs += 1
                fetched.nbytes += packs[name].nbytes
                tally.finish(pack_key(name))
            if brought.source is not None:
                note_damaged(store.root, brought.source.url, frozenset(), {name})
            silent = [failure for failure in brought.failures if isinstance(failure, RemoteTimeoutError)]
            if len(silent) == len(offers.remotes[name]):
                unanswered.add(name)
    for here, wrong in keep_sound(store, arrived).items():
        offers.failures.append(
            CorruptError(
                f"{offers.remotes[arrived[here]][0].url}: {wrong}", hint="run git theta fsck --full on the remote"
            )
        )
    for name in names:
        # A failed pack is not tried again. The whole pack is after its ranges failed, unless its remotes are silent.
        if packs[name].ranges is None or name in unanswered:
            offers.forget(name)
        else:
            offers.only_whole(name)


def _bring(store: Store, name: str, portion: Portion, remotes: Sequence[OpenedRemote]) -> _Brought:
    if portion.ranges is not None:
        return _Brought(*bring_ranges(store, name, portion.ranges, remotes))
    source, failures = bring_pack(store, name, portion.nbytes, remotes)
    return _Brought(name if store.has_intact(name) else None, failures, source)
