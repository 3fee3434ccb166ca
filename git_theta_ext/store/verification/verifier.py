"""Verify the entries of packs before anything relies on them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError, ThetaError
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import ancestors, depths, shallowest, sound_first
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.index_damage import no_warning
from git_theta_ext.store.inventory import Inventory
from git_theta_ext.store.locations import Location, Verdict, filtered, flattened, sound
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.read_ahead import read_ahead
from git_theta_ext.store.verification.examine import WORTH, is_damage, outcomes
from git_theta_ext.store.verification.findings import Findings
from git_theta_ext.util.files import sha256_of
from git_theta_ext.util.threads import no_progress, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.locations import Copy, Locations
    from git_theta_ext.store.verification.examine import Chosen, Examiner

_REMEMBERED = 1 << 28
"""Stored bytes that are decoded at most before the verdicts are recorded."""


@dataclass(frozen=True)
class Judged:
    """The result of decoding entries of packs.

    Attributes:
        errors: The error of each entry, None if it is sound.
        stranded: Entries that depend on a tensor without a verified location.
    """

    errors: Mapping[Copy, ThetaError | OSError | None]
    stranded: tuple[Copy, ...]

    def bad(self) -> dict[Copy, ThetaError | OSError | None]:
        """Return the damaged entries with their errors."""
        return {entry: error for entry, error in self.errors.items() if is_damage(error)}


class Verifier(Inventory):
    """An inventory that decodes every entry once before it relies on it.

    An entry of a pack is sound if it decodes to its digest, given the tensors that its bases name. It does not matter
    which packs the bases come from, as long as those entries were verified before. Verdicts are recorded in the index.
    Entries that this process encodes are recorded as sound when they are written.

    Args:
        root: As for ``Inventory``.
        alternates: As for ``Inventory``.
        threads: Number of threads that decode and hash; 0 for one per CPU.
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
        self._findings = Findings(self.verdicts)
        self._examiner: Examiner | None = None

    @contextmanager
    def examining_by(self, examiner: Examiner) -> Iterator[None]:
        """Let something else decode entries of packs during a block, if these are large."""
        before, self._examiner = self._examiner, examiner
        try:
            yield
        finally:
            self._examiner = before

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the digests without a verified location in this store or its alternates.

        Entries that were not decoded before are decoded now. The packs of the other digests are touched, which protects
        them from garbage collection until a manifest names them.
        """
        wanted = set(digests)
        if not wanted:
            return wanted
        locations, chosen = self.touch_sound(wanted)
        if (absent := wanted - set(chosen)) & set(locations):
            self.prove(absent)
            _, chosen = self.touch_sound(wanted)
        return wanted - set(chosen)

    def prove(self, digests: Iterable[Digest], choose: Callable[[Locations], Chosen] = sound_first) -> None:
        """Decode locations of some tensors until each tensor has a verified one, if that is possible.

        Args:
            digests: Digests of the tensors.
            choose: Chooses the locations to read, without cycles.
        """
        wanted = set(digests)
        tried: set[Copy] = set()
        if self.all_proven():
            return
        while True:
            chosen = choose(self._findings.decodable(self.locations(wanted)))
            needed = ((digest, chosen[digest]) for digest in ancestors(wanted & set(chosen), chosen))
            unknown = [(digest, location) for digest, location in needed if location.verdict is Verdict.UNKNOWN]
            if tried.issuperset(unknown):
                return
            tried.update(unknown)
            self.judge(unknown)

    def all_proven(self) -> bool:
        """Return whether there are verdicts on all entries, so that ``prove`` has nothing to do."""
        return not self._findings.any_unrecorded and not self.verdicts.any_unknown()

    def judge(self, copies: Iterable[Copy], advance: Callable[[int], None] = no_progress) -> Judged:
        """Decode entries of packs, given verified bases, and record the verdicts.

        Args:
            copies: Digest and location of each entry.
            advance: Called with the number of bytes that were decoded since the last call.
        """
        todo = list(copies)
        errors: dict[Copy, ThetaError | OSError | None] = {}
        while todo:
            trusted = shallowest(sound(self.locations({base for _, location in todo for base in location.bases})))
            ready = [(digest, location) for digest, location in todo if all(base in trusted for base in location.bases)]
            if not ready:
                break
            errors.update(self._examine(ready, trusted, advance))
            todo = [copy for copy in todo if copy not in errors]
        return Judged(errors, tuple(todo))

    def judge_again(self, digests: Iterable[Digest], advance: Callable[[int], None] = no_progress) -> Judged:
        """Decode all locations of some digests, whatever the verdicts on them are; see ``judge``."""
        locations = self.index.locations(digests)
        copies = [(digest, location._replace(verdict=Verdict.UNKNOWN)) for digest, location in flattened(locations)]
        self._findings.forget(copies)
        self.prove({base for _, location in copies for base in location.bases} - set(locations))
        return self.judge(copies, advance)

    def verify(self, digests: Sequence[Digest], blobs: Blobs) -> None:
        """Decode tensors from given blobs, and remember for this process that this succeeded.

        Raises:
            CorruptError: A tensor does not match its digest, or depends on a tensor that has no blob.
            MissingError: A pack is gone.
        """
        wanted = [(digest, blobs[digest].entry.spec) for digest in digests]
        for _ in read_ahead(self.decoder, [(tensor,) for tensor in wanted], blobs, threads=self.threads):
            pass
        self._findings.note_verified((digest, blobs[digest].path.name) for digest in digests)

    def verify_copies(self, copies: Sequence[Copy], trusted: Chosen) -> None:
        """Decode entries of packs, and remember for this process that this succeeded.

        Args:
            copies: Digest and location of each entry.
            trusted: The locations that bases are decoded from.

        Raises:
            CorruptError: A tensor does not match its digest.
            MissingError: A pack is gone.
        """
        for error in self._outcomes(copies, trusted):
            if error is not None:
                raise error
        self._findings.note_verified((digest, location.pack) for digest, location in copies)

    def was_verified(self, digest: Digest, pack: str) -> bool:
        """Return whether this object has decoded a tensor out of a pack successfully.

        This is stronger than a recorded verdict, since the file may have been damaged after that was recorded.
        """
        return self._findings.was_verified(digest, pack)

    def doubt(self, digests: Iterable[Digest], blobs: Blobs) -> None:
        """Remove the verdicts on some tensors and all that they depend on, since reading these blobs failed.

        They are decoded again before they are next relied on.
        """
        locations = {
            digest: Location(str(path.parents[2]), path.name, 0, entry.stored, entry.bases)
            for digest, (path, entry) in blobs.items()
        }
        self._findings.note([(digest, locations[digest]) for digest in ancestors(digests, locations)], Verdict.UNKNOWN)
        self.decoder.bundles.clear()

    def doubt_pack(self, root: Path, name: str) -> None:
        """Remove the verdicts on the entries of a pack, since its file has changed."""
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
        """Return pack name and digest of entries that are useless in every pack of that name.

        They are bad, or need a plug-in that is not installed.
        """
        return self.verdicts.bad_entries() | self._findings.undecodable()

    def all_locations(self) -> Locations:
        """Return all locations in the index that are not known to be bad."""
        return self.usable(self.index.all_locations())

    def usable(self, locations: Locations) -> Locations:
        """Return those of some locations in the index that are not known to be bad."""
        return self._findings.usable(locations)

    def _look_up(self, digests: set[Digest]) -> Locations:
        return self.usable(super()._look_up(digests))

    def _examine(
        self, copies: Sequence[Copy], trusted: Chosen, advance: Callable[[int], None]
    ) -> dict[Copy, ThetaError | OSError | None]:
        """Decode entries given trusted bases. Entries with a base that turns out to be damaged are left out."""
        errors: dict[Copy, ThetaError | OSError | None] = {}
        good: list[Copy] = []
        nbytes = 0
        for copy, error in zip(copies, self._outcomes(copies, trusted, advance), strict=True):
            if error is None:
                good.append(copy)
            elif not is_damage(error):
                self._findings.note_undecodable(copy)
            elif (below := self._damage_below(copy, trusted)) is None:
                self._reject(copy)
            elif is_damage(below) or isinstance(below, MissingError):
                continue
            else:
                self._findings.note_undecodable(copy)
            errors[copy] = error
            nbytes += copy[1].stored
            if nbytes > _REMEMBERED:
                self._findings.note(good, Verdict.SOUND)
                good, nbytes = [], 0
        self._findings.note(good, Verdict.SOUND)
        return errors

    def _outcomes(
        self, copies: Sequence[Copy], trusted: Chosen, advance: Callable[[int], None] = no_progress
    ) -> Iterator[ThetaError | OSError | None]:
        if self._examiner is not None and sum(location.stored for _, location in copies) >= WORTH:
            return self._examiner.outcomes(self.blob_at, copies, trusted, advance=advance)
        return outcomes(self.decoder, self.finder(), copies, trusted, threads=self.threads, advance=advance)

    def _damage_below(self, copy: Copy, trusted: Chosen) -> ThetaError | OSError | None:
        """Decode the bases of an entry again, which may have been damaged since, and return the first error."""
        behind = {digest: trusted[digest] for digest in ancestors(copy[1].bases, trusted)}
        steps = depths(behind)
        for base in sorted(behind.items(), key=lambda item: steps[item[0]]):
            if not base[1].pack or self.was_verified(base[0], base[1].pack):  # of a part, its bundle is among them
                continue
            (error,) = self._outcomes([base], trusted)
            if is_damage(error):
                self._reject(base)
            if isinstance(error, MissingError):
                self.refresh()
            if error is not None:
                return error
            self._findings.note_verified([(base[0], base[1].pack)])
        return None

    def _reject(self, copy: Copy) -> None:
        digest, location = copy
        self._findings.note([copy], Verdict.BAD)
        with suppress(OSError, StoreError):
            # Otherwise only this file is damaged, and another pack of that name may be sound.
            if sha256_of(self._path(location.root, location.pack)) == location.pack:
                self.verdicts.note_bad(location.pack, digest)
