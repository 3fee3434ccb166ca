"""Decode chunks of stored tensors, and for that the chunks of their bases."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.deltas.bundles import DecodedBundles, part_range, sources
from git_theta_ext.store.deltas.decoded_chunks import DecodedChunks
from git_theta_ext.store.packs.format import PART, WITHOUT_CHUNKS, chunk_count, chunk_range
from git_theta_ext.store.packs.reader import wrong_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.packs.reader import PackReader, StoredBlob

    Blobs = Mapping[Digest, StoredBlob]
    """The blobs of some tensors and of all their bases, without cycles."""

_LARGEST_WHOLE = 1 << 28
"""Largest size in bytes of a base that is needed whole, and so held in memory."""

_REMEMBERED = 1 << 26
"""Total size in bytes of such bases that are cached for the next chunk."""

SMALL = 1 << 17
"""Largest size in bytes of a tensor that is kept for its deltas."""

_SMALL_ROOM = 1 << 26
"""Bytes of all of these together."""


class Decoder:
    """Decodes chunks. Safe to use from several threads.

    Args:
        reader: Reads chunks out of packs.
    """

    def __init__(self, reader: PackReader) -> None:
        self.reader = reader
        self._rooms = threading.local()
        self._lock = threading.Lock()
        self._whole: OrderedDict[Digest, memoryview] = OrderedDict()
        self._whole_nbytes = 0
        self._small: dict[Digest, tuple[memoryview, str]] = {}
        self._small_room = _SMALL_ROOM
        self.bundles = DecodedBundles()

    def decode(
        self, blobs: Blobs, digest: Digest, number: int, out: memoryview, known: DecodedChunks | None = None
    ) -> None:
        """Decode one chunk. Verifying the tensor is left to the caller.

        Args:
            blobs: Of the tensor and all its bases; without cycles.
            digest: Digest of the tensor.
            number: Index of the chunk.
            out: Takes the bytes; has exactly their size.
            known: Chunks of bases that are decoded already, to which others are added; by default none.

        Raises:
            CorruptError: The stored bytes cannot be decoded.
            MissingError: A pack is gone.
        """
        _Descent(self, blobs, known).decode(digest, number, out)

    def recall(self, digest: Digest) -> memoryview | None:
        """Return a whole base from the cache; None if it is not there."""
        with self._lock:
            return self._whole.get(digest)

    def remember(self, digest: Digest, data: memoryview) -> None:
        """Add a whole base to the cache, and remove the oldest ones if the cache is full."""
        with self._lock:
            if digest in self._whole:  # another thread decoded it, too
                return
            self._whole[digest] = data
            self._whole_nbytes += data.nbytes
            while self._whole_nbytes > _REMEMBERED:
                self._whole_nbytes -= self._whole.popitem(last=False)[1].nbytes

    def keep_small(self, digest: Digest, data: memoryview, pack: str) -> None:
        """Keep a copy of a verified tensor for deltas of it, if it is small and there is room.

        Nothing makes room: if a model has more small tensors, those that are decoded first are needed first again.

        Args:
            digest: Digest of the tensor.
            data: Its bytes.
            pack: Name of the pack that it was decoded from.
        """
        with self._lock:
            if data.nbytes <= min(SMALL, self._small_room) and digest not in self._small:
                self._small[digest] = memoryview(bytes(data)), pack
                self._small_room -= data.nbytes

    def small(self, digest: Digest, pack: str = "") -> memoryview | None:
        """Return the bytes of a tensor that was kept, from one pack or from any; None if it was not."""
        data, source = self._small.get(digest, (None, ""))
        return data if not pack or pack == source else None

    def room(self, key: tuple[int, int], nbytes: int) -> memoryview:
        """Return memory that the same thread reuses for the same key."""
        rooms: dict[tuple[int, int], bytearray] = self._rooms.__dict__.setdefault("rooms", {})
        if len(rooms.get(key, b"")) < nbytes:
            rooms[key] = bytearray(nbytes)
        return memoryview(rooms[key])[:nbytes]


class _Descent:
    """The recursion from a chunk to the chunks of its bases."""

    def __init__(self, decoder: Decoder, blobs: Blobs, known: DecodedChunks | None) -> None:
        self._decoder = decoder
        self._blobs = blobs
        self._known = known
        self._depth = 0

    def decode(self, digest: Digest, number: int, out: memoryview) -> None:
        path, entry = self._blob(digest)
        try:
            if entry.encoding in WITHOUT_CHUNKS:
                self._depth += 1
                self._collect(entry, out)
                self._depth -= 1
                return
            encoding = find_encoding(entry.encoding)
            start, end = chunk_range(entry.spec, number)
            self._depth += 1
            bases = self._bases(entry, encoding.needs, (start, end))
            self._depth -= 1
            chunk = Chunk(entry.spec, start, bases, entry.params)
            encoding.decode(chunk, self._decoder.reader.chunk(path, entry, number), out)
        except CorruptError as error:
            if error.pack is not None:
                raise
            message = f"pack {path.name}: {digest}: {error.message}"
            raise CorruptError(message, hint="git theta fsck", pack=path.name) from error

    def _collect(self, entry: Entry, out: memoryview) -> None:
        """Copy a tensor out of a bundle, or the tensors of a bundle out of others."""
        if entry.encoding == PART:
            if len(entry.bases) != 1:
                raise CorruptError(f"{len(entry.bases)} bases instead of one for the encoding {PART}")
            (base,) = entry.bases
            start, end = part_range(entry, self._blob(base).entry)
            out[:] = self._whole(base)[start:end]
            return
        for start, end, base, at in sources(entry, self._blobs):
            out[start:end] = self._whole(base)[at : at + end - start]

    def _whole(self, digest: Digest) -> memoryview:
        """Return the bytes of a bundle, or of a tensor that is as small."""
        path, entry = self._blob(digest)
        if entry.spec.nbytes > entry.spec.chunk_bytes:
            raise CorruptError(f"base {digest} of {entry.spec.nbytes} bytes is too large for a bundle")

        def decode() -> memoryview:
            data = memoryview(bytearray(entry.spec.nbytes))
            self.decode(digest, 0, data)
            return data.toreadonly()

        return self._decoder.bundles.get((digest, path), entry.spec.nbytes, decode)

    def _blob(self, digest: Digest) -> StoredBlob:
        blob = self._blobs.get(digest)
        if blob is None:
            raise CorruptError(f"base {digest} is not one that the index lists")
        return blob

    def _bases(self, entry: Entry, needs: Sequence[str], part: tuple[int, int]) -> tuple[Base, ...]:
        if not needs and not entry.bases:
            return ()
        if len(needs) != len(entry.bases):
            raise CorruptError(f"{len(entry.bases)} bases instead of {len(needs)} for the encoding {entry.encoding}")
        return tuple(
            self._range(base, entry.spec, part, at) if need == "range" else self._all(base)
            for at, (base, need) in enumerate(zip(entry.bases, needs, strict=True))
        )

    def _range(self, base: Digest, spec: TensorSpec, part: tuple[int, int], at: int) -> Base:
        other = self._blob(base).entry.spec
        if other.dtype != spec.dtype:
            raise CorruptError(f"base {base} has type {other.dtype.name}, not {spec.dtype.name}")
        start, end = part[0], min(part[1], other.nbytes)
        if start >= end:
            return Base(other, memoryview(b""))
        number = start // spec.chunk_bytes
        # At the end of either tensor the base's chunk may be longer or shorter than ours.
        first, last = chunk_range(other, number)
        data = self._decoder.small(base) or (self._known.get(base, number) if self._known else None)
        if data is None:
            data = self._room(at, last - first)
            self.decode(base, number, data)
            if self._known:
                self._known.add(base, number, data)
        return Base(other, data[: end - start])

    def _room(self, at: int, nbytes: int) -> memoryview:
        """Return memory for a base, which the next chunk uses again unless the base is remembered."""
        return memoryview(bytearray(nbytes)) if self._known else self._decoder.room((self._depth, at), nbytes)

    def _all(self, base: Digest) -> Base:
        spec = self._blob(base).entry.spec
        data = self._decoder.recall(base)
        if data is None:
            if spec.nbytes > _LARGEST_WHOLE:
                raise CorruptError(f"base {base} of {spec.nbytes} bytes exceeds the limit of {_LARGEST_WHOLE}")
            data = memoryview(bytearray(spec.nbytes))
            for number in range(chunk_count(spec)):
                start, end = chunk_range(spec, number)
                self.decode(base, number, data[start:end])
            if tensor_digest(spec, data) != base:
                raise wrong_tensor(self._blob(base).path.name, base)
            data = data.toreadonly()
            self._decoder.remember(base, data)
        return Base(spec, data)


class StoredSource:
    """A stored tensor, read piece by piece; see ``git_theta_ext.interfaces.TensorSource``. For use by one thread.

    Args:
        decoder: Decodes chunks.
        blobs: Of the tensor and all its bases.
        digest: Of the tensor.
        known: Decoded chunks, which sources that are related may share; by default the last one of this source.
    """

    def __init__(self, decoder: Decoder, blobs: Blobs, digest: Digest, known: DecodedChunks | None = None) -> None:
        self.spec = blobs[digest].entry.spec
        self._decoder = decoder
        self._blobs = blobs
        self._digest = digest
        self._shared = known
        self._known = known or DecodedChunks()

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a range of its bytes. Decoded chunks are cached."""
        end = self.spec.nbytes if end is None else min(end, self.spec.nbytes)
        if start >= end:
            return memoryview(b"")
        size = self.spec.chunk_bytes
        numbers = range(start // size, -(-end // size))
        if len(numbers) == 1:
            chunk, offset = self._chunk(numbers[0]), numbers[0] * size
            return chunk[start - offset : end - offset]
        data = memoryview(bytearray(end - start))
        for number in numbers:
            first, last = chunk_range(self.spec, number)
            low, high = max(start, first), min(end, last)
            data[low - start : high - start] = self._chunk(number)[low - first : high - first]
        return data

    def _chunk(self, number: int) -> memoryview:
        chunk = self._known.get(self._digest, number)
        if chunk is None:
            path, entry = self._blobs[self._digest]
            if entry.bundle is None:
                chunk = self._decoded(number)
            else:  # a bundle is one chunk, and the parent of the next version, too
                key = self._digest, path
                chunk = self._decoder.bundles.get(key, self.spec.nbytes, lambda: self._decoded(0).toreadonly())
            self._known.add(self._digest, number, chunk)
        return chunk

    def _decoded(self, number: int) -> memoryview:
        start, end = chunk_range(self.spec, number)
        chunk = memoryview(bytearray(end - start))
        self._decoder.decode(self._blobs, self._digest, number, chunk, self._shared)
        return chunk
