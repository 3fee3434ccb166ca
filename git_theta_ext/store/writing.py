"""Write packs of new blobs, and verify what relies on others before anything relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.store.deltas.chains import sound_first
from git_theta_ext.store.holding import HoldingStore
from git_theta_ext.store.locations import in_pack
from git_theta_ext.store.packs.writer import PackWriter
from git_theta_ext.util.threads import ALONE, no_progress, pool, window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.blobs import NewBlob
    from git_theta_ext.store.packs.format import Entry


def _all(digests: AbstractSet[Digest]) -> AbstractSet[Digest]:
    return digests


class WritableStore(HoldingStore):
    """Writes packs; see ``Verifier`` for the arguments."""

    def write(
        self,
        packs: Sequence[Sequence[NewBlob]],
        advance: Callable[[int], None] = no_progress,
        *,
        loose: bool,
        wanted: Callable[[AbstractSet[Digest]], AbstractSet[Digest]] = _all,
    ) -> list[str]:
        """Write packs. They are durable on return, and verified, except loose entries without bases.

        Entries are read back, but those of blobs that prove themselves, which have decoded their chunks already.

        Args:
            packs: The blobs of each pack.
            advance: Called with the number of tensor bytes encoded since the last call.
            loose: Whether recoding may still make them smaller. If false, they replace what is stored already.
            wanted: As for ``PackWriter``.

        Returns:
            The names of the packs that are kept.

        Raises:
            StoreError: A file cannot be written. No partly written file is left.
            CorruptError: A tensor or what it becomes a delta of does not match its digest. The packs are removed.
        """
        return self.begin_write(packs, advance, loose=loose, wanted=wanted)()

    def begin_write(
        self,
        packs: Sequence[Sequence[NewBlob]],
        advance: Callable[[int], None],
        *,
        loose: bool,
        wanted: Callable[[AbstractSet[Digest]], AbstractSet[Digest]] = _all,
        threads_from: int = ALONE,
    ) -> Callable[[], list[str]]:
        """Encode the tensors of packs, and return a function that does the rest of ``write``.

        Threads encode them if they have more bytes than ``threads_from``.
        """
        proofs = {blob.digest: blob.proves for pack in packs for blob in pack if blob.proves}
        with pool(self.threads, sum(blob.spec.nbytes for pack in packs for blob in pack), threads_from) as executor:
            try:
                finish = PackWriter(self.root, executor, window(self.threads), wanted).begin(packs, advance)
            except CorruptError:
                self._find_damage({*proofs, *(parent for parent, _ in proofs.values())})
                raise

        def finished() -> list[str]:
            made = finish()
            for name, entries in made:
                self.reader.written(self.pack_path(name), entries)
            self._read_back(dict(made), proofs.keys(), everything=not loose)
            self._findings.note_verified(proofs.values())
            for name, entries in made:
                self.index.add_pack(str(self.root), name, entries, loose=loose, verified=True)
            return [name for name, _ in made]

        return finished

    def _read_back(
        self, made: Mapping[str, tuple[Entry, ...]], proven: AbstractSet[Digest], *, everything: bool
    ) -> None:
        """Verify entries with bases, or all entries, before anything relies on them, if they are not proven yet."""
        self._findings.note_verified(
            (entry.digest, name) for name, entries in made.items() for entry in entries if entry.digest in proven
        )
        every = (entry for entries in made.values() for entry in entries)
        if all(entry.digest in proven or not (entry.bases or everything) for entry in every):
            return
        fresh = [copy for name, entries in made.items() for copy in in_pack(str(self.root), name, entries)]
        wanted = [copy for copy in fresh if copy[0] not in proven and (copy[1].bases or everything)]
        bases = {base for _, location in wanted for base in location.bases}
        # Several versions of a tensor may be written together. What was there before is read from shorter chains.
        found = sound_first(self.locations(bases))
        before = {digest: at for digest, at in found.items() if at.pack}
        trusted = found | dict(fresh) | before
        if absent := bases - set(trusted):
            raise self._absent(absent, len(bases))
        # A delta of a damaged base would be lost when the base is repaired. It may be a part of a bundle.
        bases |= {bundle for base in bases if not trusted[base].pack for bundle in trusted[base].bases}
        wanted += sorted(
            (base, before[base]) for base in bases & set(before) if not self.was_verified(base, before[base].pack)
        )
        try:
            self.verify_copies(wanted, trusted)
        except CorruptError:
            recorded = self.index.packs()
            for name in made:
                if (str(self.root), name) not in recorded:
                    self.pack_path(name).unlink(missing_ok=True)
            self._find_damage({digest for digest, _ in wanted})
            raise

    def _find_damage(self, digests: AbstractSet[Digest]) -> None:
        """Read tensors that new packs were made from: if a damaged pack is the cause, the error has to name that pack.

        Raises:
            CorruptError: A tensor is damaged.
        """
        present = sorted(digests - self.touch_and_find_missing(digests))
        blobs = self.blobs(present)
        for _ in self.read_ahead([(digest, blobs[digest].entry.spec) for digest in present]):
            pass
