"""Work on many small tensors in memory: they are read once, and what is computed from them is stored together."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.store.locations import Verdict, flattened
from git_theta_ext.store.read_ahead import read_ahead
from git_theta_ext.store.reading import ReadableStore

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.memory import MemoryStore
    from git_theta_ext.store.read_ahead import DecodedPiece, Group, Groups, Work
    from git_theta_ext.store.runs import Place

    Items = Sequence[tuple[TensorSpec, Digest, Buffer]]


class Held:
    """What a store holds in memory during a block.

    Attributes:
        specs: Of each tensor.
        memory: The tensors.
        waiting: Those that are to be stored, as they were put: tensors that were put together are bundled.
    """

    def __init__(self, threads: int) -> None:
        from git_theta_ext.store.memory import MemoryStore  # most processes hold nothing

        self.specs: dict[Digest, TensorSpec] = {}
        self.memory = MemoryStore(threads)
        self.waiting: list[Items] = []

    def add(self, items: Items) -> None:
        """Hold tensors, given by spec, digest and little-endian bytes."""
        self.memory.put(items)
        self.specs.update((digest, spec) for spec, digest, _ in items)

    def put(self, items: Items) -> None:
        """Hold tensors that are to be stored."""
        self.add(items)
        self.waiting.append(items)

    def has(self, groups: Groups) -> bool:
        """Return whether all tensors of some groups are held."""
        return all(self.specs.get(digest) == spec for group in groups for digest, spec in group)


class HoldingStore(ReadableStore):
    """A store that can hold tensors in memory during a block; see ``Verifier`` for the arguments."""

    def __init__(self, root: Path, alternates: Sequence[Path], threads: int, warn: Callable[[str], None]) -> None:
        super().__init__(root, alternates, threads, warn)
        self._held: Held | None = None

    @contextmanager
    def _holding(self, values: Mapping[Digest, TensorSpec]) -> Iterator[Held]:
        """Hold tensors in memory during a block, and what is put meanwhile."""
        held = Held(self.threads)
        held.add(self._values(values))
        self._held = held
        try:
            yield held
        finally:
            self._held = None

    @property
    def is_holding(self) -> bool:
        """Whether this is such a block, at whose end what is put becomes durable."""
        return self._held is not None

    def memory_of(self, tensors: Group) -> MemoryStore | None:
        """Return where tensors are held, given by digest and spec; None if one of them is not."""
        held = self._held
        return held.memory if held is not None and held.has([tensors]) else None

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """As ``Verifier.touch_and_find_missing``; what is held was touched when it was read."""
        others = digests if self._held is None else set(digests).difference(self._held.specs)
        return super().touch_and_find_missing(others)

    def in_runs(self, places: Sequence[Place]) -> list[Place]:
        """As ``ReadableStore.in_runs``; what is held is not read from bundles."""
        return [*places] if self.is_holding else super().in_runs(places)

    def _pieces(self, groups: Groups, work: Work | None = None, **options: Any) -> Iterator[DecodedPiece]:
        held = self._held
        if held is None or not held.has(groups):
            yield from super()._pieces(groups, work, **options)
        else:
            yield from held.memory.read_aligned(groups, work, **{**options, "threads": 1})

    def _values(self, values: Mapping[Digest, TensorSpec]) -> Items:
        """Read tensors, and record that they are sound; none if one is missing or damaged.

        Whoever needs that one finds out.
        """
        items: list[tuple[TensorSpec, Digest, Buffer]] = []
        try:
            stored = self.stored_as(values)
            blobs = self.blobs(stored.values())
            tensors = [(digest, blobs[digest].entry.spec) for digest in dict.fromkeys(stored.values())]
            read = bytearray()
            for piece in read_ahead(self.decoder, [(tensor,) for tensor in tensors], blobs, threads=self.threads):
                if piece.chunks:
                    read += piece.data
                else:
                    digest, spec = tensors[piece.group]
                    view, bundle = memoryview(read).toreadonly(), blobs[digest].entry.bundle
                    items += [(spec, digest, view)] if bundle is None else _members(bundle, view, values)
                    read = bytearray()
            self._note_sound(blobs)
            if self.touch_and_find_missing(values):
                return []
        except (MissingError, CorruptError):
            return []
        return items if {digest: spec for spec, digest, _ in items} == values else []

    def _note_sound(self, blobs: Blobs) -> None:
        """Record that entries without bases were decoded: otherwise they would be decoded again before they count."""
        if self.all_proven():
            return
        copies = flattened(self.locations(blobs))
        read = {(digest, blob.path) for digest, blob in blobs.items() if not blob.entry.bases}
        self._findings.note(
            [
                (digest, location)
                for digest, location in copies
                if location.verdict is Verdict.UNKNOWN and (digest, self._path(*location.pack_id)) in read
            ],
            Verdict.SOUND,
        )


def _members(bundle: Bundle, data: memoryview, wanted: Container[Digest]) -> Items:
    """Return those of some tensors that a bundle has, given its bytes: as copies if it has many others."""
    parts = [
        (spec, digest, data[start : start + spec.nbytes])
        for start, spec, digest in bundle.members()
        if digest in wanted
    ]
    if 2 * sum(part.nbytes for _, _, part in parts) >= data.nbytes:
        return parts
    return [(spec, digest, bytes(part)) for spec, digest, part in parts]
