"""Find out whether packs hold what they say to hold, and believe only those that do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError, ThetaError
from git_theta_ext.store.deltas.chains import ancestors, depths, shallowest, sound_first
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.index_damage import no_warning
from git_theta_ext.store.inventory import Inventory
from git_theta_ext.store.locations import Location, Verdict, filtered, flattened, sound, usable
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.read_ahead import read_ahead
from git_theta_ext.store.verification.examine import is_damage, outcomes
from git_theta_ext.util.files import sha256_of
from git_theta_ext.util.threads import no_progress, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.verification.examine import Chosen, Held

_REMEMBERED = 1 << 28
"""Bytes that are decoded at most before what came of it is written down."""


@dataclass(frozen=True)
class Judged:
    """What came of decoding entries of packs.

    Attributes:
        found: What is wrong with each, None if nothing is.
        stranded: Those that lean on something which no verified pack holds.
    """

    found: Mapping[Held, ThetaError | OSError | None]
    stranded: tuple[Held, ...]

    def bad(self) -> dict[Held, ThetaError | OSError | None]:
        """Return those that are not what they say to be, and what is wrong with each."""
        return {each: error for each, error in self.found.items() if is_damage(error)}


class Verifier(Inventory):
    """An inventory that decodes what it relies on, once.

    An entry of a pack is sound if it decodes to its digest through the tensors that its bases name. Digests are
    content, so it does not matter which packs these come from, as long as they were verified before. What was found is
    kept in the index; what we encode ourselves is recorded as sound when it is written.

    Args:
        root: As for ``Inventory``.
        alternates: As for ``Inventory``.
        threads: For decoding and hashing; 0 for one each processor.
        warn: As for ``Inventory``.
    """

    def __init__(
        self,
        root: Path,
        alternates: Sequence[Path] = (),
        threads: int = 0,
        warn: Callable[[str], None] = no_warning,
    ) -> None:
        super().__init__(root, alternates, warn)
        self.threads = thread_count(threads)
        self.decoder = Decoder(self.reader)
        self._verified: set[tuple[Digest, str]] = set()
        self._better: dict[tuple[Digest, str, str], Verdict] = {}
        self._undecided: set[tuple[Digest, str, str]] = set()

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that no verified pack holds, here or in the alternates.

        What was not decoded before is decoded now. Packs that the others need are touched, so that no garbage
        collection takes them before a manifest names them.
        """
        wanted = set(digests)
        found, chosen = self.touch_sound(wanted)
        if (absent := wanted - set(chosen)) & set(found):
            self.prove(absent)
            _, chosen = self.touch_sound(wanted)
        return wanted - set(chosen)

    def prove(self, digests: Iterable[Digest], choose: Callable[[Locations], Chosen] = sound_first) -> None:
        """Decode what some tensors would be read from, until each is held by something verified if that is possible.

        Args:
            digests: Of the tensors.
            choose: Chooses what to read from, without circles.
        """
        wanted = set(digests)
        tried: set[Held] = set()
        if not self._better and not self.verdicts.any_unknown():
            return
        while True:
            chosen = choose(self._decidable(self.locations(wanted)))
            needed = ((digest, chosen[digest]) for digest in ancestors(wanted & set(chosen), chosen))
            unknown = [(digest, location) for digest, location in needed if location.verdict is Verdict.UNKNOWN]
            if tried.issuperset(unknown):
                return
            tried.update(unknown)
            self.judge(unknown)

    def judge(self, held: Iterable[Held], advance: Callable[[int], None] = no_progress) -> Judged:
        """Decode entries of packs through bases that are verified, and remember what came of it.

        Args:
            held: Digests and locations.
            advance: Told the number of bytes that were decoded, as it goes.
        """
        todo = list(held)
        found: dict[Held, ThetaError | OSError | None] = {}
        while todo:
            trusted = shallowest(sound(self.locations({base for _, location in todo for base in location.bases})))
            ready = [each for each in todo if all(base in trusted for base in each[1].bases)]
            if not ready:
                break
            found.update(self._examine(ready, trusted, advance))
            todo = [each for each in todo if each not in found]
        return Judged(found, tuple(todo))

    def judge_again(self, digests: Iterable[Digest], advance: Callable[[int], None] = no_progress) -> Judged:
        """Decode every entry that says to hold one of some digests, whatever was known of it; see ``judge``."""
        known = self.index.locations(digests)
        held = [(digest, replace(location, verdict=Verdict.UNKNOWN)) for digest, location in flattened(known)]
        self._better.update(dict.fromkeys(map(_key, held), Verdict.UNKNOWN))
        self._verified.clear()
        self._undecided.clear()
        self.prove({base for _, location in held for base in location.bases} - set(known))
        return self.judge(held, advance)

    def verify(self, digests: Sequence[Digest], blobs: Blobs) -> None:
        """Decode tensors from given blobs, and remember for this process that this succeeded.

        Raises:
            CorruptError: A tensor does not match its digest, or depends on a tensor that has no blob.
            MissingError: A pack is gone.
        """
        wanted = [(digest, blobs[digest].entry.spec) for digest in digests]
        for _ in read_ahead(self.decoder, [(tensor,) for tensor in wanted], blobs, threads=self.threads):
            pass
        self._verified.update((digest, blobs[digest].path.name) for digest in digests)

    def was_verified(self, digest: Digest, pack: str) -> bool:
        """Tell whether a tensor was decoded out of a pack by this object, and came back.

        More than that it is known to be sound: that says nothing of a file that was damaged since.
        """
        return (digest, pack) in self._verified

    def doubt(self, digests: Iterable[Digest], blobs: Blobs) -> None:
        """Forget that some tensors were verified, and what they lean on: reading these blobs failed.

        Whoever relies on them next decodes them again.
        """
        locations = {
            digest: Location(str(path.parents[2]), path.name, 0, entry.stored, entry.bases)
            for digest, (path, entry) in blobs.items()
        }
        self._remember([(digest, locations[digest]) for digest in ancestors(digests, locations)], Verdict.UNKNOWN)

    def doubt_pack(self, root: Path, name: str) -> None:
        """Forget what was found out of a pack's entries, since its file is not what it was."""
        with suppress(StoreError):
            self.verdicts.forget(str(root), name)

    def drop_replaced(self) -> None:
        """Remove packs of this store that have a bad entry, if verified packs hold everything they claim to hold."""
        bad = flattened(self.verdicts.bad_here())
        for name in sorted({location.pack for _, location in bad if location.root == str(self.root)}):
            with suppress(CorruptError, FileNotFoundError):  # without its header its content is unknown
                digests = {entry.digest for entry in read_pack_header(self.pack_path(name)).entries}
                if digests <= set(shallowest(self._sound_outside(name, digests))):
                    self.drop([name])

    def _sound_outside(self, name: str, digests: AbstractSet[Digest]) -> Locations:
        return filtered(sound(self.locations(digests)), lambda _, location: location.pack != name)

    def rejected(self) -> set[tuple[str, Digest]]:
        """Return name and digest of entries that are known not to help, wherever a pack of that name lies.

        They are bad, or nothing that is installed can decode them.
        """
        return self.verdicts.bad_entries() | {(pack, digest) for digest, _, pack in self._undecided}

    def all_locations(self) -> Locations:
        """Return what the packs in the index hold, as far as it is not known to be bad."""
        return self._as_known(self.index.all_locations())

    def _look_up(self, digests: set[Digest]) -> Locations:
        return self._as_known(super()._look_up(digests))

    def _as_known(self, locations: Locations) -> Locations:
        if self._better:
            locations = {
                digest: tuple(self._known(digest, location) for location in held) for digest, held in locations.items()
            }
        return usable(locations)

    def _known(self, digest: Digest, location: Location) -> Location:
        return replace(location, verdict=self._better.get(_key((digest, location)), location.verdict))

    def _decidable(self, locations: Locations) -> Locations:
        """Leave out what could not be decoded by this process, for other reasons than that it is damaged."""
        return filtered(locations, lambda digest, location: _key((digest, location)) not in self._undecided)

    def _examine(
        self, held: Sequence[Held], trusted: Chosen, advance: Callable[[int], None]
    ) -> dict[Held, ThetaError | OSError | None]:
        """Decode what leans on trusted locations; what leans on one that turns out to be damaged is left out."""
        found: dict[Held, ThetaError | OSError | None] = {}
        good: list[Held] = []
        nbytes = 0
        for each, error in zip(held, self._outcomes(held, trusted, advance), strict=True):
            if error is None:
                good.append(each)
            elif not is_damage(error):
                self._undecided.add(_key(each))
            elif (below := self._damage_below(each, trusted)) is None:
                self._reject(each)
            elif is_damage(below) or isinstance(below, MissingError):
                continue
            else:
                self._undecided.add(_key(each))
            found[each] = error
            nbytes += each[1].stored
            if nbytes > _REMEMBERED:
                self._remember(good, Verdict.SOUND)
                good, nbytes = [], 0
        self._remember(good, Verdict.SOUND)
        return found

    def _outcomes(
        self, held: Sequence[Held], trusted: Chosen, advance: Callable[[int], None] = no_progress
    ) -> Iterator[ThetaError | OSError | None]:
        return outcomes(self.decoder, self.blob_at, held, trusted, threads=self.threads, advance=advance)

    def _damage_below(self, held: Held, trusted: Chosen) -> ThetaError | OSError | None:
        """Decode again what an entry leans on, and return what is wrong with it: it may have been damaged since."""
        behind = {digest: trusted[digest] for digest in ancestors(held[1].bases, trusted)}
        steps = depths(behind)
        for base in sorted(behind.items(), key=lambda each: steps[each[0]]):
            if self.was_verified(base[0], base[1].pack):
                continue
            (error,) = self._outcomes([base], trusted)
            if is_damage(error):
                self._reject(base)
            if isinstance(error, MissingError):
                self.refresh()
            if error is not None:
                return error
            self._verified.add((base[0], base[1].pack))
        return None

    def _reject(self, held: Held) -> None:
        digest, location = held
        self._remember([held], Verdict.BAD)
        with suppress(OSError, StoreError):
            # Else it is this file that was damaged, and another of that name may be sound.
            if sha256_of(self._path(location.root, location.pack)) == location.pack:
                self.verdicts.note_bad(location.pack, digest)

    def _remember(self, held: Sequence[Held], verdict: Verdict) -> None:
        if not held:
            return
        names = {(digest, location.pack) for digest, location in held}
        if verdict is Verdict.SOUND:
            self._verified.update(names)
        else:
            self._verified.difference_update(names)
        self._better.update(dict.fromkeys(map(_key, held), verdict))
        with suppress(StoreError):  # a full disk, or nobody may write there: for this process only
            self.verdicts.record(held, verdict)
            for each in held:
                self._better.pop(_key(each), None)


def _key(held: Held) -> tuple[Digest, str, str]:
    return held[0], held[1].root, held[1].pack
