"""The store: put tensors and skeletons, and get them back by digest, verified."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.index import Index
from git_theta_ext.store.packs import chunk_count, chunk_range
from git_theta_ext.store.pool import no_progress, ordered_map, thread_count
from git_theta_ext.store.reader import PackReader, read_pack_header
from git_theta_ext.store.writer import PackWriter, explained, grouped, pack_path, place_pack, sha256_of, sync_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.packs import Entry

MAX_CHAIN = 16
"""The most bases one behind another that are followed; recoding keeps chains much shorter."""


class Store:
    """The packs of a repository and of those it borrows from.

    Args:
        root: ``$GIT_COMMON_DIR/theta``; made when something is first stored.
        alternates: Roots of other stores that are read, never written.
        threads: For encoding, decoding and hashing; 0 for one each processor.
    """

    def __init__(self, root: Path, alternates: Sequence[Path] = (), threads: int = 0) -> None:
        self.root = root
        self.threads = thread_count(threads)
        self.index = Index(root / "index.sqlite3")
        self._roots = (root, *alternates)
        self._reader = PackReader()
        self._refreshed = False

    @property
    def _window(self) -> int:
        return 2 * self.threads + 2

    def pack_path(self, name: str) -> Path:
        """Return where this store keeps a pack, whether or not it is there."""
        return pack_path(self.root, name)

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are neither here nor in an alternate.

        Packs that hold the others are touched, so that no garbage collection takes them before a manifest names them.
        """
        wanted = set(digests)
        found = self._find(wanted)
        try:
            for root, name in {(root, name) for root, name, _ in found.values()}:
                with suppress(PermissionError):  # an alternate of somebody else's
                    os.utime(self._path(root, name))
        except FileNotFoundError:  # went this very moment
            self.refresh()
            found = self._find(wanted)
        return wanted - set(found)

    def put(
        self, items: Sequence[tuple[TensorSpec, Digest, Buffer]], advance: Callable[[int], None] = no_progress
    ) -> int:
        """Store what is not there yet; durable on return.

        Args:
            items: Spec, digest and little-endian bytes of tensors and skeletons; the digests are trusted.
            advance: Told the number of bytes dealt with, as it goes.

        Returns:
            Bytes written.

        Raises:
            StoreError: The file system refused; nothing half written is left.
        """
        missing = self.missing(digest for _, digest, _ in items)
        fresh: dict[Digest, tuple[TensorSpec, Digest, Buffer]] = {}
        for item in items:
            if item[1] in missing:
                fresh.setdefault(item[1], item)
        advance(sum(spec.nbytes for spec, _, _ in items) - sum(spec.nbytes for spec, _, _ in fresh.values()))
        if not fresh:
            return 0
        with ThreadPoolExecutor(self.threads) as executor:
            writer = PackWriter(self.root, find_encoding("dense"), executor, self._window)
            packs = writer.write(grouped(list(fresh.values())), advance)
        for name, entries in packs:
            self.index.add_pack(str(self.root), name, [entry.digest for entry in entries])
        return sum(self.pack_path(name).stat().st_size for name, _ in packs)

    def read(self, digest: Digest, spec: TensorSpec) -> bytearray:
        """Return a whole tensor or skeleton.

        Raises:
            MissingError: It is not here.
            CorruptError: What is stored is not what the digest names.
        """
        data = bytearray(spec.nbytes)
        for _, offset, chunk in self.chunks([(digest, spec)]):
            data[offset : offset + chunk.nbytes] = chunk
        return data

    def stream(self, digest: Digest, spec: TensorSpec) -> Iterator[memoryview]:
        """Yield a tensor chunk by chunk; believe none of it before the last has come.

        Raises:
            MissingError: It is not here.
            CorruptError: After the last chunk: what is stored is not what the digest names.
        """
        for _, _, chunk in self.chunks([(digest, spec)]):
            yield chunk

    def chunks(
        self,
        wanted: Sequence[tuple[Digest, TensorSpec]],
        sink: Callable[[int, int, memoryview], None] | None = None,
    ) -> Iterator[tuple[int, int, memoryview]]:
        """Decode tensors in threads and yield their chunks in order, each tensor verified behind its last chunk.

        Args:
            wanted: Digest and spec of each.
            sink: Called in the threads with number in ``wanted``, offset and bytes of each chunk, in any order.

        Yields:
            Number in ``wanted``, offset in the tensor, and bytes that are valid until the next are asked for.

        Raises:
            MissingError: A tensor is not here; nothing was decoded yet.
            CorruptError: What is stored is not what a digest names.
        """
        entries = self._entries(wanted)
        largest = max((min(spec.chunk_bytes, spec.nbytes) for _, spec in wanted), default=0)
        buffers: list[memoryview] = []  # used over and over: fresh memory costs more than decoding
        jobs = ((item, number) for item, (_, spec) in enumerate(wanted) for number in range(chunk_count(spec)))

        def decode(job: tuple[int, int]) -> memoryview:
            item, number = job
            buffer = buffers.pop() if buffers else memoryview(bytearray(largest))
            start, end = chunk_range(wanted[item][1], number)
            self._decode(*entries[item], number, buffer[: end - start], MAX_CHAIN)
            if sink is not None:
                sink(item, start, buffer[: end - start])
            return buffer

        with ThreadPoolExecutor(self.threads) as executor:
            decoded = ordered_map(executor, decode, jobs, self._window)
            for item, (digest, spec) in enumerate(wanted):
                hasher = TensorHasher(spec)
                for number in range(chunk_count(spec)):
                    buffer = next(decoded)
                    start, end = chunk_range(spec, number)
                    hasher.update(buffer[: end - start])
                    yield item, start, buffer[: end - start]
                    buffers.append(buffer)
                if hasher.digest() != digest:
                    raise CorruptError(
                        f"pack {entries[item][0].name}: the tensor stored as {digest} is another",
                        hint="git theta fsck",
                    )

    def packs_of(self, digests: Iterable[Digest]) -> set[str]:
        """Return the names of packs that hold these and all that they are coded against.

        Raises:
            MissingError: One is not here.
        """
        names: set[str] = set()
        todo = set(digests)
        seen: set[Digest] = set()
        while todo:
            seen |= todo
            for path, entry in self._located(todo).values():
                names.add(path.name)
                todo = todo | set(entry.bases)
            todo -= seen
        return names

    def path_of(self, name: str) -> Path:
        """Return where a pack is, here or in an alternate.

        Raises:
            MissingError: It is in none of them.
        """
        for root in self._roots:
            if (path := pack_path(root, name)).exists():
                return path
        raise MissingError(f"pack {name} is not in the store", hint="git theta fsck")

    def adopt(self, name: str, path: Path) -> None:
        """Take over a file that is said to be a pack of this name; durable on return.

        Raises:
            CorruptError: Its bytes do not have that name, or are no pack. The file is left where it is.
        """
        if (actual := sha256_of(path)) != name:
            raise CorruptError(f"a file that should be pack {name} has SHA-256 {actual}")
        header = read_pack_header(path)
        if header.pack_bytes != path.stat().st_size:
            raise CorruptError(f"pack {name} has another size than its header says")
        with explained(path):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            sync_folders(place_pack(self.root, path, name))
        self.index.add_pack(str(self.root), name, [entry.digest for entry in header.entries])

    def pack_files(self) -> Iterator[tuple[Path, Path]]:
        """Yield the store's root and the path of every pack, here and in the alternates."""
        for root in self._roots:
            with suppress(FileNotFoundError):
                for folder in sorted((root / "packs").iterdir()):
                    for path in sorted(folder.iterdir()):
                        yield root, path

    def refresh(self) -> None:
        """Make the index agree with the packs on disk: another process, a copy or a restored backup changed them."""
        known = self.index.packs()
        present = {(str(root), path.name): path for root, path in self.pack_files()}
        for root, name in known - set(present):
            self.index.drop_pack(root, name)
        for (root, name), path in present.items():
            if (root, name) not in known:
                with suppress(CorruptError, FileNotFoundError):  # fsck names it
                    header = read_pack_header(path)
                    self.index.add_pack(root, name, [entry.digest for entry in header.entries])

    def close(self) -> None:
        """Close the index and all packs."""
        self._reader.close()
        self.index.close()

    def _path(self, root: str, name: str) -> Path:
        return pack_path(next(r for r in self._roots if str(r) == root), name)

    def _find(self, digests: set[Digest]) -> dict[Digest, tuple[str, str, int]]:
        roots = {str(root) for root in self._roots}
        found = self.index.find(digests)
        gone = {
            (root, name)
            for root, name in {(root, name) for root, name, _ in found.values()}
            if root not in roots or not self._path(root, name).exists()
        }
        if gone or (len(found) < len(digests) and not self._refreshed):
            self._refreshed = True
            self.refresh()
            found = self.index.find(digests)
        return {digest: place for digest, place in found.items() if place[0] in roots}

    def _located(self, digests: set[Digest]) -> dict[Digest, tuple[Path, Entry]]:
        found = self._find(digests)
        if absent := digests - set(found):
            raise MissingError(
                f"{len(absent)} of {len(digests)} tensors are not in the store, {min(absent)} among them",
                hint="git theta checkout fetches what a remote has; git theta fsck says which files need them",
            )
        places = {digest: (self._path(root, name), entry) for digest, (root, name, entry) in found.items()}
        return {digest: (path, self._reader.header(path).entries[entry]) for digest, (path, entry) in places.items()}

    def _entries(self, wanted: Sequence[tuple[Digest, TensorSpec]]) -> list[tuple[Path, Entry]]:
        located = self._located({digest for digest, _ in wanted})
        for digest, spec in wanted:
            path, entry = located[digest]
            if entry.spec != spec or entry.digest != digest:
                raise CorruptError(f"pack {path.name} holds {digest} as {entry.spec}, not as {spec}")
        return [located[digest] for digest, _ in wanted]

    def _decode(self, path: Path, entry: Entry, number: int, out: memoryview, depth: int) -> None:
        if depth == 0:
            raise CorruptError(f"pack {path.name}: {entry.digest} leans on more than {MAX_CHAIN} others")
        bases = []
        for base in entry.bases:
            bases.append(memoryview(bytearray(out.nbytes)))
            self._decode(*self._located({base})[base], number, bases[-1], depth - 1)
        payload = self._reader.chunk(path, entry, number)
        try:
            find_encoding(entry.encoding).decode(entry.spec, payload, out, bases)
        except CorruptError as error:
            raise CorruptError(f"pack {path.name}: {entry.digest}: {error.message}", hint="git theta fsck") from error
