"""What a process found out about the entries of packs, besides the verdicts that the index records."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError
from git_theta_ext.store.locations import Verdict, filtered, usable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Copy, Location, Locations
    from git_theta_ext.store.verdicts import Verdicts


class Findings:
    """Verdicts of this process; they are recorded in the index if that can be written.

    Args:
        verdicts: The recorded verdicts.
    """

    def __init__(self, verdicts: Verdicts) -> None:
        self._verdicts = verdicts
        self._verified: set[tuple[Digest, str]] = set()
        self._unrecorded: dict[tuple[Digest, str, str], Verdict] = {}
        self._undecodable: set[tuple[Digest, str, str]] = set()

    @property
    def any_unrecorded(self) -> bool:
        """Whether a verdict could not be recorded."""
        return bool(self._unrecorded)

    def note(self, copies: Sequence[Copy], verdict: Verdict) -> None:
        """Record a verdict on some entries."""
        if not copies:
            return
        names = {(digest, location.pack) for digest, location in copies}
        if verdict is Verdict.SOUND:
            self._verified.update(names)
        else:
            self._verified.difference_update(names)
        self._unrecorded.update(dict.fromkeys(map(_key, copies), verdict))
        with suppress(StoreError):  # on a full disk or without permission the verdict is kept for this process only
            self._verdicts.record(copies, verdict)
            for copy in copies:
                self._unrecorded.pop(_key(copy), None)

    def note_verified(self, names: Iterable[tuple[Digest, str]]) -> None:
        """Note that this process has decoded tensors, given by digest and pack."""
        self._verified.update(names)

    def note_undecodable(self, copy: Copy) -> None:
        """Note that an entry could not be decoded for another reason than damage, such as an absent plug-in."""
        self._undecodable.add(_key(copy))

    def forget(self, copies: Iterable[Copy]) -> None:
        """Forget what was verified or could not be decoded, and all verdicts on some entries."""
        self._unrecorded.update(dict.fromkeys(map(_key, copies), Verdict.UNKNOWN))
        self._verified.clear()
        self._undecodable.clear()

    def was_verified(self, digest: Digest, pack: str) -> bool:
        """Return whether this process has decoded a tensor out of a pack successfully."""
        return (digest, pack) in self._verified

    def undecodable(self) -> set[tuple[str, Digest]]:
        """Return pack name and digest of the entries that could not be decoded."""
        return {(pack, digest) for digest, _, pack in self._undecodable}

    def decodable(self, locations: Locations) -> Locations:
        """Leave out entries that could not be decoded."""
        return filtered(locations, lambda digest, location: _key((digest, location)) not in self._undecodable)

    def usable(self, locations: Locations) -> Locations:
        """Return locations with the latest verdicts, without those that are bad."""
        if self._unrecorded:
            locations = {
                digest: tuple(self._judged(digest, location) for location in held) for digest, held in locations.items()
            }
        return usable(locations)

    def _judged(self, digest: Digest, location: Location) -> Location:
        return location._replace(verdict=self._unrecorded.get(_key((digest, location)), location.verdict))


def _key(copy: Copy) -> tuple[Digest, str, str]:
    return copy[0], copy[1].root, copy[1].pack
