"""Objects in a store of obstore, under the keys of a remote.

An object of up to ``_PART`` bytes is written by one request, which fails if the key exists. A larger one is written in
parts, after a request that asks for the key; two writers at once write the same bytes, since keys contain their hash.
Several index entries that are published together are one object (``_heads``).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import check_key, check_prefix, is_key, open_file

from ._budget import Budget
from ._files import own_size, write_all
from ._heads import FOLDER, Heads
from ._object_errors import read_failure
from ._requests import IN_FLIGHT, WAIT_LONGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from ._requests import Requests

_PART = 5 << 20
"""Bytes of a part: the least that S3 allows, so that little is in memory and little is sent again after a failure."""

_PARTS_AT_ONCE = 4
_MOST_PARTS = 9_000  # S3 allows 10,000
_SMALL = 1 << 18
"""The most bytes of an object that is uploaded within the time that the server may be silent."""

_SLOWEST_DOWNLOAD = 1 << 13
"""The lowest rate in bytes per second; a slower download is aborted."""

_CHUNK = 1 << 14  # what is not a whole chunk is lost if the connection breaks
_INDEX = "index/"
_MOST_KEYS = 1 << 22
_CONFLICT = 409


class ObjectStore:
    """See ``Remote``.

    Args:
        requests: Sends requests.
        prefix: What the names of all objects begin with: empty, or with a slash at the end.
        report: See ``RemoteContext``.
        cache: A directory for index entries, which need not exist; None to keep nothing.
    """

    def __init__(
        self, requests: Requests, prefix: str, report: Callable[[str, int], None], cache: Path | None = None
    ) -> None:
        self._requests = requests
        self._url = requests.url
        self._prefix = prefix
        self._report = report
        self._memory = Budget(IN_FLIGHT)
        self._conditional = True
        self._heads = Heads(lambda: self._keys(FOLDER), lambda key, end: self._object(key, 0, end), cache)
        self._indexed: set[str] | None = None

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        check_prefix(prefix)
        keys = {key for key in self._keys(prefix) if not key.startswith(FOLDER)}
        if _INDEX.startswith(prefix) or prefix.startswith(_INDEX):
            keys |= {key for name in self._heads.refresh() if (key := _INDEX + name).startswith(prefix)}
        if _INDEX.startswith(prefix):
            self._indexed = {key for key in keys if key.startswith(_INDEX)}
        yield from keys

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        check_key(key)
        entry = self._entry(key)
        if entry is None:
            try:
                return self._object(key, start, end)
            except MissingError:
                if not key.startswith(_INDEX):
                    raise
                self._heads.refresh()
                entry = self._entry(key)
                if entry is None:
                    raise
        return entry[start:end]

    def _entry(self, key: str) -> bytes | None:
        return self._heads.get(key.removeprefix(_INDEX)) if key.startswith(_INDEX) else None

    def _object(self, key: str, start: int, end: int | None) -> bytes:
        name = self._prefix + key
        if end is not None and start >= end:
            self._requests.run(lambda: self._size(name), name, reads=True)
            return b""
        return self._requests.run(lambda: b"".join(self._read(name, start, end)[1]), name, reads=True)

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download an object to a local file, and go on by another request as long as each of them brings something."""
        name = self._prefix + check_key(key)
        begun, started = own_size(path, nbytes), time.monotonic()
        before = begun - 1
        while (position := own_size(path, nbytes)) > before:
            elapsed = time.monotonic() - started
            if position - begun < _SLOWEST_DOWNLOAD * (elapsed - self._requests.timeout):
                raise RemoteTimeoutError(
                    f"{self._url}: only {position - begun} bytes in {elapsed:.0f} seconds", hint=WAIT_LONGER
                )
            before = position
            try:
                self._requests.run(lambda: self._append(key, path, nbytes), name, reads=True)
            except RemoteError as error:
                failure = error
            else:
                return
        raise failure

    def put(self, key: str, path: Path) -> bool:
        """Add a local file; in parts, if it is large."""
        import obstore

        name, size = self._prefix + check_key(key), path.stat().st_size
        if size <= _PART:
            with self._memory.taken(size):
                return self._write(key, path.read_bytes())
        if self._requests.run(lambda: self._exists(name), name):
            return False
        store, part = self._requests.connection.writing, max(_PART, -(-size // _MOST_PARTS))
        with self._memory.taken(part * _PARTS_AT_ONCE):
            self._requests.run(
                lambda: obstore.put(
                    store, name, self._read_parts(key, path, part), chunk_size=part, max_concurrency=_PARTS_AT_ONCE
                ),
                name,
            )
        return True

    def _read_parts(self, key: str, path: Path, part: int) -> Iterator[bytes]:
        """Yield a file in parts, and report those that are sent when another one is needed."""
        with path.open("rb") as file:
            while data := file.read(part):
                self._report(key, max(0, file.tell() - (_PARTS_AT_ONCE + 1) * part))
                yield data

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Add index entries, in one object."""
        for key in entries:
            check_key(key)
        there = set(self.list(_INDEX)) if self._indexed is None else self._indexed
        missing = {key: path for key, path in entries.items() if key not in there}
        if len(missing) == 1:
            for key, path in missing.items():
                self.put(key, path)
        elif missing:
            self._heads.add({key.removeprefix(_INDEX): path.read_bytes() for key, path in missing.items()}, self._write)
        self._indexed = there | set(missing)

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist. No times are updated, because git theta does not remove objects by age here."""
        wanted = {check_key(key) for key in keys}
        prefixes = {key[: key.find("/") + 1] for key in wanted}
        return wanted & {key for prefix in prefixes for key in self.list(prefix)}

    def _keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of objects that start with ``prefix``."""
        folder = self._prefix + prefix[: prefix.rfind("/") + 1]
        for name in self._requests.run(lambda: self._names(folder), f"{folder}x"):
            key = name[len(self._prefix) :]
            if name.startswith(self._prefix + prefix) and is_key(key):
                yield key

    def _write(self, key: str, content: bytes) -> bool:
        name = self._prefix + key
        return self._requests.run(lambda: self._create(name, content), name)

    def _names(self, folder: str) -> Sequence[str]:
        import obstore

        names = []
        for page in obstore.list(self._requests.connection.reading, folder or None):
            names += [found["path"] for found in page]
            if len(names) > _MOST_KEYS:
                raise RemoteError(f"{self._url} lists more than {_MOST_KEYS} objects")
        return names

    def _read(self, name: str, start: int, end: int | None) -> tuple[int, Iterator[memoryview]]:
        """Return the size of an object, and its bytes from ``start`` up to ``end`` in chunks."""
        import obstore
        from obstore.exceptions import BaseError

        store, skipped = self._requests.connection.reading, 0
        try:
            if end is not None:
                result = obstore.get(store, name, options={"range": (start, end)})
            else:
                result = obstore.get(store, name, options={"range": {"offset": start}} if start else None)
        except BaseError as error:
            failure = read_failure(error)
            if failure.behind_the_end:
                return self._size(name), iter(())
            if not failure.whole:
                raise
            # The server does not know ranges.
            result, skipped = obstore.get(store, name), start
        size = int(result.meta["size"])
        length = max(0, (size if end is None else min(end, size)) - start)
        return size, _limited(result.stream(min_chunk_size=_CHUNK), skipped, length)

    def _size(self, name: str) -> int:
        import obstore

        return int(obstore.head(self._requests.connection.reading, name)["size"])

    def _exists(self, name: str) -> bool:
        try:
            self._size(name)
        except FileNotFoundError:
            return False
        return True

    def _append(self, key: str, path: Path, nbytes: int) -> None:
        """Append the bytes that a local file lacks; durable on return."""
        name, position = self._prefix + key, own_size(path, nbytes)
        size, chunks = self._read(name, position, None)
        if size != nbytes:
            raise CorruptError(f"{self._url}: {name} has {size} bytes instead of {nbytes}")
        target = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for chunk in chunks:
                write_all(target, chunk)
                position += len(chunk)
                self._report(key, position)
            os.fsync(target)
        finally:
            os.close(target)
        if position != nbytes:
            raise CorruptError(f"{self._url}: {name} has {position} bytes instead of {nbytes}")

    def _create(self, name: str, content: bytes) -> bool:
        """Write an object by one request unless its name is taken."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        connection = self._requests.connection
        store = connection.reading if len(content) <= _SMALL else connection.writing
        if self._conditional:
            try:
                obstore.put(store, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if read_failure(error).status == _CONFLICT and not self._exists(name):
                    raise RemoteError(f"{self._url}: another client has begun to write {name}") from error
                return False
            except BaseError as error:
                if not read_failure(error).unsupported:
                    raise
                self._conditional = False
            else:
                return True
        if self._exists(name):
            return False
        obstore.put(store, name, content, use_multipart=False)
        return True


def _limited(chunks: Iterator[Buffer], skipped: int, length: int) -> Iterator[memoryview]:
    """Yield ``length`` bytes of a stream after the first ``skipped``; a server may send more than it said."""
    for chunk in chunks:
        whole = memoryview(chunk)
        view = whole[skipped:]
        skipped -= len(whole) - len(view)
        yield view[:length]
        length -= min(length, len(view))
        if not length:
            return
