"""Amazon S3 and compatible servers, and Google Cloud Storage, through tensorstore.

tensorstore 0.1 has these limits: an upload holds the whole object in memory (``_IN_FLIGHT`` bounds the packs in flight,
but a larger pack is uploaded alone); S3 takes at most 5 GiB in one piece; and put-if-absent on S3 is a check and then a
write. The race between the two is harmless here: keys contain the hash of their object, so all writers write the same
bytes.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import RemoteType, check_key, check_prefix, is_key, require

from ._files import own_size, write_all
from ._kvstore_options import spec_of
from ._stderr import silent_sdk
from ._timeout import TIMEOUT, timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.interfaces import RemoteContext

_PIECE = 1 << 22
_IN_FLIGHT = 1 << 28
_PUBLISHERS = 8
_S3_LARGEST = 5 << 30
_BEYOND = 1 << 50
_SLOWEST = 1 << 13
"""The lowest rate in bytes per second; a slower transfer is aborted."""

_TIMED_OUT = "Timeout was reached"
_DENIED = "PERMISSION_DENIED"
_REFUSED = "check the credentials, or git config theta.remote.NAME.credentials profile"
# Servers and drivers use different messages. If a message does not have the size, the size is found by search.
_SIZE = re.compile(r"(?:<ActualObjectSize>|value of size |total size )(\d{1,15})\b")


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> KvStore:
    """Open the store at ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///directory``.

    Args:
        url: The URL, without credentials; tensorstore finds them in the environment and in the files of the provider.
        options: For S3: ``endpoint`` (URL of a server that is not Amazon's), ``region``, and ``credentials``
            (``environment``, ``profile``, ``imds``, ``ecs``, ``anonymous``; default: the first of them that has any).
            For all: ``timeout``, the time that a server may be silent, in seconds.
        context: Not used.

    Raises:
        ConfigError: The URL or an option is not valid.
        LibraryError: Tensorstore is not installed.
    """
    del context
    timeout, spec = timeout_of(url, options), spec_of(url, options)
    require("tensorstore", f"the remote {url}")
    import tensorstore

    try:
        with silent_sdk():
            store = tensorstore.KvStore.open(spec).result()
    except ValueError as error:
        raise ConfigError(f"{url}: {_brief(error)}", hint="git config theta.remote.NAME.url URL") from error
    return KvStore(url, store, timeout)


REMOTE = RemoteType(("s3", "gs"), open_remote)


class KvStore:
    """See ``Remote``.

    Args:
        url: The URL, for messages.
        store: A ``tensorstore.KvStore``.
        timeout: Time that the server may be silent, in seconds.
    """

    def __init__(self, url: str, store: Any, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._store = store
        self._timeout = timeout
        self._memory = _Budget(_IN_FLIGHT)
        self._largest = _S3_LARGEST if url.startswith("s3:") else _BEYOND

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        import tensorstore

        check_prefix(prefix)
        behind = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        with self._errors(), silent_sdk():  # the first request searches for credentials
            keys = self._wait(self._store.list(tensorstore.KvStore.KeyRange(prefix, behind)))
        yield from filter(is_key, (key.decode(errors="replace") for key in keys))

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        check_key(key)
        try:
            with self._errors():
                return self._read(key, start, end)
        except _OutOfRangeError:
            size = self._size(key)
            with self._errors():
                return self._read(key, min(start, size), min(size if end is None else end, size))

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download an object to a local file, 4 MiB at a time."""
        position = own_size(path, nbytes)
        piece = self.get(key, position, min(position + _PIECE, nbytes))
        with self._errors():
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                while position < nbytes:
                    # A server may send more than requested, or never send anything.
                    if not 0 < len(piece) <= nbytes - position:
                        raise CorruptError(f"{self._url}: {key} has {position + len(piece)} bytes instead of {nbytes}")
                    write_all(target, piece)
                    position += len(piece)
                    if position < nbytes:
                        piece = self.get(key, position, min(position + _PIECE, nbytes))
                os.fsync(target)
            finally:
                os.close(target)

    def put(self, key: str, path: Path) -> bool:
        """Add a local file."""
        check_key(key)
        with self._errors():
            size = path.stat().st_size
            if size > self._largest:
                raise RemoteError(
                    f"{path.name} has {size} bytes; {self._url} takes {self._largest} at most",
                    hint="git config theta.remote.NAME.url /a/directory, which takes such large tensors",
                )
            before = self._wait(self._store.read(key, byte_range=slice(0, 0)))
            if before.state != "missing":
                return False
            with self._memory.taken(size):
                sent = self._store.write(key, path.read_bytes(), if_equal=before.stamp.generation)
                stamp = self._wait(sent, size)
            if stamp.generation:
                return True
            # Another writer was faster, or the bucket does not exist: the stamp is the same in both cases.
            if self._wait(self._store.read(key, byte_range=slice(0, 0))).state != "missing":
                return False
        raise RemoteError(
            f"{self._url}: {key} was refused, most likely because there is no such bucket",
            hint="create the bucket, or git config theta.remote.NAME.url URL",
        )

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Add index entries, in threads."""
        with ThreadPoolExecutor(_PUBLISHERS) as executor:
            for _ in executor.map(self.put, entries, entries.values()):
                pass

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist. No times are updated, because git theta does not remove objects by age here."""
        wanted = {check_key(key) for key in keys}
        prefixes = {key[: key.find("/") + 1] for key in wanted}
        return wanted & {key for prefix in prefixes for key in self.list(prefix)}

    def _wait(self, future: Any, nbytes: int = 0) -> Any:
        """Return the result of a request that transfers ``nbytes`` bytes; abort if the server is silent too long."""
        return future.result(timeout=self._timeout + nbytes / _SLOWEST)

    def _read(self, key: str, start: int, end: int | None) -> bytes:
        stop = end if end is None else max(start, end)
        result = self._wait(self._store.read(key, byte_range=slice(start, stop)), 0 if stop is None else stop - start)
        if result.state == "missing":
            raise MissingError(f"{key} is not in {self._url}")
        return bytes(result.value)

    def _size(self, key: str) -> int:
        """Return the size of an object, which tensorstore only reports in errors."""
        with self._errors():
            self._read(key, 0, 0)
        try:
            with self._errors():
                self._read(key, _BEYOND, None)
        except _OutOfRangeError as error:
            if match := _SIZE.search(error.text):
                return int(match[1])
        return find_size(lambda position: self._has(key, position))

    def _has(self, key: str, position: int) -> bool:
        try:
            with self._errors():
                return bool(self._read(key, position, position + 1))
        except _OutOfRangeError:
            return False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise self._silent() from error
        except ValueError as error:  # tensorstore raises it for any status
            if _TIMED_OUT in str(error):
                raise self._silent() from error
            kind = _OutOfRangeError if str(error).startswith("OUT_OF_RANGE") else RemoteError
            raise kind(f"{self._url}: {_brief(error)}", hint=_REFUSED if _DENIED in str(error) else None) from error
        except OSError as error:
            raise RemoteError(f"{error.filename or self._url}: {error.strerror or error}") from error

    def _silent(self) -> RemoteError:
        return RemoteTimeoutError(
            f"{self._url}: no answer for {self._timeout:g} seconds",
            hint="git config theta.remote.NAME.timeout SECONDS waits longer; received bytes are kept",
        )


class _OutOfRangeError(RemoteError):
    """A range ends after the end of the object."""

    @property
    def text(self) -> str:
        return str(self.__cause__)


class _Budget:
    """A memory budget that threads share; a thread that needs more waits until no other thread holds any."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = Condition()

    @contextmanager
    def taken(self, nbytes: int) -> Iterator[None]:
        share = min(nbytes, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


def find_size(has: Callable[[int], bool]) -> int:
    """Return the size of an object by search, with about two calls for each bit of the size.

    Args:
        has: Returns whether the object has a byte at a position.
    """
    high = 1
    while has(high - 1):
        high *= 2
    low = high // 2
    while low < high:
        middle = (low + high) // 2
        if has(middle):
            low = middle + 1
        else:
            high = middle
    return low


def _brief(error: Exception) -> str:
    """Return an error message without the body of the response, which is long and may repeat parts of the request."""
    return str(error).partition(" [")[0][:300]
