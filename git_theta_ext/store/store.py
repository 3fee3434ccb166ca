"""Store tensors and skeletons, and read them back by digest, verified."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import ChangedError
from git_theta_ext.store.deltas.chains import depths, sound_first
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs, dense_estimate, estimate
from git_theta_ext.store.index_damage import no_warning
from git_theta_ext.store.packs.blobs import dense_blob, empty_blob
from git_theta_ext.store.packs.checked import FileSource, checked_blob, hashed_blob
from git_theta_ext.store.packs.writer import grouped
from git_theta_ext.store.parts import FEWEST
from git_theta_ext.store.writing import WritableStore
from git_theta_ext.util.files import total_bytes
from git_theta_ext.util.threads import ALONE, keep_freed_memory, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import TensorSource
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.packs.blobs import NewBlob

    Value = Buffer | FileSource
    """A tensor's little-endian bytes, or where they are."""
    Item = tuple[TensorSpec, Digest, Value]

__all__ = ["DeltaHint", "Store"]

DEEPEST_HINT = 8
"""Chain depth of a parent from which on a hint is ignored: recoding can do better, and reading stays fast."""

_ENCODED_ALONE = 1 << 23
"""Bytes that one thread encodes in the time that others take to start, with the import of ``concurrent.futures``."""

_LARGEST = 1 << 23
"""Bytes; the arrays that chunks are processed with have four mebibytes at most."""


class Store(WritableStore):
    """Writes tensors to packs and reads them from packs.

    Args:
        root: As for ``Inventory``.
        alternates: As for ``Inventory``.
        threads: Number of threads that encode, decode and hash; 0 for one per CPU.
        warn: As for ``Inventory``.
    """

    def __init__(
        self,
        root: Path,
        alternates: Sequence[Path] = (),
        threads: int = 0,
        warn: Callable[[str], None] = no_warning,
    ) -> None:
        super().__init__(root, alternates, threads, warn)
        keep_freed_memory(_LARGEST)

    @contextmanager
    def holding(self, values: Mapping[Digest, TensorSpec]) -> Iterator[None]:
        """Hold small tensors in memory during a block, and store what it puts in one go at its end.

        Each step of a merge would look them up, decode and verify them again, and write a pack. What the block puts is
        durable only when the block has ended, and is dropped if it fails. Hints for deltas are ignored.

        Args:
            values: Digest and spec of tensors that the block reads. If one is missing or damaged, none is held.

        Raises:
            StoreError: What the block put cannot be written.
        """
        with self._holding(values) as held:
            yield
        self._begin_put(held.waiting, no_progress, {}, _ENCODED_ALONE)()

    def put(
        self,
        items: Sequence[tuple[TensorSpec, Digest, Value]],
        advance: Callable[[int], None] = no_progress,
        hints: Mapping[Digest, DeltaHint] | None = None,
    ) -> int:
        """Store tensors and skeletons that are not in the store yet. They are durable on return.

        Args:
            items: Spec, digest and value of each. Digests of values in memory are trusted.
            advance: Called with the number of bytes processed since the last call.
            hints: How some values in memory may be stored as deltas. A hint is ignored if it saves no bytes.

        Returns:
            Bytes written.

        Raises:
            ChangedError: A value in a file does not match its digest. Nothing is stored under that digest.
            StoreError: A file cannot be written. No partly written file is left.
        """
        return self.begin_put(items, advance, hints)()

    def begin_put(
        self,
        items: Sequence[tuple[TensorSpec, Digest, Value]],
        advance: Callable[[int], None] = no_progress,
        hints: Mapping[Digest, DeltaHint] | None = None,
    ) -> Callable[[], int]:
        """Encode tensors as ``put`` does, and return a function that does the rest, which needs no values.

        The tensors are durable, and others can find them, when that function returns. It is called once, in the same
        thread or in another one, but not while another thread stores.
        """
        if self._held is not None:
            self._held.put([(spec, digest, data) for spec, digest, data in items if not isinstance(data, FileSource)])
            items = [item for item in items if isinstance(item[2], FileSource)]
        return self._begin_put([items], advance, hints or {})

    def _begin_put(
        self,
        groups: Sequence[Sequence[Item]],
        advance: Callable[[int], None],
        hints: Mapping[Digest, DeltaHint],
        threads_from: int = ALONE,
    ) -> Callable[[], int]:
        """Begin to store groups of tensors; see ``begin_put`` and ``write``. Bundles have tensors of one group."""
        missing = self.touch_and_find_missing(digest for items in groups for _, digest, _ in items)
        seen: set[Digest] = set()
        blobs: dict[Digest, NewBlob] = {}
        for items in groups:
            fresh = {item[1]: item for item in items if item[1] in missing and item[1] not in seen}
            seen |= fresh.keys()
            advance(sum(spec.nbytes for spec, _, _ in items) - sum(spec.nbytes for spec, _, _ in fresh.values()))
            alone = list(fresh.values())
            if len(alone) >= FEWEST:
                from git_theta_ext.store.bundled import bundle_blob, bundled  # filters start without it

                bundles, alone = bundled(alone, hints)
                blobs.update((blob.digest, blob) for blob in map(bundle_blob, bundles))
            for item in alone:
                for blob in self._blobs(item, hints.get(item[1])):
                    blobs.setdefault(blob.digest, blob)
        if not blobs:
            return lambda: 0
        others = {digest for digest, blob in blobs.items() if blob.bundle is None} - missing
        for digest in self._own(others):
            del blobs[digest]
        finish = self.begin_write(grouped(blobs.values()), advance, loose=True, threads_from=threads_from)

        def finished() -> int:
            names = finish()
            self.drop_replaced()
            return total_bytes(map(self.pack_path, names))

        return finished

    def _own(self, digests: set[Digest]) -> set[Digest]:
        """Return those of some tensors that deltas can depend on: they have an entry, and are not only in a bundle."""
        if not digests:
            return digests
        _, chosen = self.touch_sound(digests)
        return {digest for digest in digests if digest in chosen and chosen[digest].pack}

    def put_unnamed(
        self, targets: Sequence[Callable[[], TensorSource]], advance: Callable[[int], None] = no_progress
    ) -> list[Digest]:
        """Store tensors with unknown digests, reading each of them once. They are durable on return.

        Use it for tensors that are probably new: one that is stored already is encoded for nothing, though not stored
        twice.

        Args:
            targets: Open a tensor for reading.
            advance: Called with the number of bytes processed since the last call.

        Returns:
            Their digests.

        Raises:
            ChangedError: A file was truncated.
            StoreError: A file cannot be written. No partly written file is left.
        """
        blobs = [hashed_blob(target) for target in targets]
        self.write(grouped(blobs), advance, loose=True, wanted=self.touch_and_find_missing)
        return [blob.encoded() for blob in blobs]

    def _blobs(self, item: tuple[TensorSpec, Digest, Value], hint: DeltaHint | None) -> list[NewBlob]:
        spec, digest, data = item
        if isinstance(data, FileSource):
            return [checked_blob(digest, lambda: data, partial(_changed, data))]
        if hint is not None:
            chosen = sound_first(self.locations({hint.parent}))
            if hint.parent in chosen and depths(chosen)[hint.parent] < DEEPEST_HINT:
                target, blobs = MemorySource(spec, data), self.blobs({hint.parent})

                def parent() -> StoredSource:
                    return StoredSource(self.decoder, blobs, hint.parent)

                if estimate(hint, target, parent()) < dense_estimate(target):
                    made = [] if chosen[hint.parent].pack else [empty_blob(blobs[hint.parent].entry)]
                    return [*made, *coded_blobs(digest, hint, lambda: target, parent)]
        return [dense_blob(digest, partial(MemorySource, spec, data))]


def _changed(source: FileSource) -> ChangedError:
    return ChangedError(f"{source.origin} changed while it was read")
