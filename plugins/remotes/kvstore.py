"""Remotes behind tensorstore's key-value stores: Amazon S3 and what speaks like it, Google Cloud Storage, folders.

Limits of tensorstore 0.1: an upload holds the whole object in memory (packs in flight are bounded, see ``_IN_FLIGHT``,
but a single pack larger than that goes alone), S3 takes at most 5 GiB in one piece, and on S3 put-if-absent is a look
and then a write. The gap between the two is harmless here: keys hold the hash of what is under them, so whoever wins
writes the same bytes.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError
from git_theta_ext.model.keys import check_key, check_prefix, is_key

from ._files import own_size, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_PIECE = 1 << 24
_IN_FLIGHT = 1 << 28
_S3_LARGEST = 5 << 30
_BEYOND = 1 << 50
_RETRIES = {"max_retries": 4}
_OPTIONS = frozenset({"endpoint", "region", "credentials"})
# Servers and drivers word it differently; where neither says it, the size is searched for.
_SIZE = re.compile(r"(?:<ActualObjectSize>|value of size |total size )(\d{1,15})\b")


def open_remote(url: str, options: Mapping[str, Any]) -> KvStore:
    """Open the store at ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``.

    Args:
        url: Holds no credentials; tensorstore finds those in the environment and in the cloud's own files.
        options: For S3: ``endpoint`` (URL of a server that is not Amazon's), ``region``, and ``credentials``
            (``environment``, ``profile``, ``imds``, ``ecs``, ``anonymous``; default: the first of them that has any).

    Raises:
        ConfigError: The URL or an option is not understood.
    """
    import tensorstore

    try:
        store = tensorstore.KvStore.open(_spec(url, options)).result()
    except ValueError as error:
        raise ConfigError(f"{url}: {_brief(error)}", hint="git config theta.remote.<name>.url URL") from error
    return KvStore(url, store)


class KvStore:
    """See ``Remote``.

    Args:
        url: For messages.
        store: A ``tensorstore.KvStore``.
    """

    def __init__(self, url: str, store: Any) -> None:
        self._url = url
        self._store = store
        self._memory = _Budget(_IN_FLIGHT)
        self._largest = _S3_LARGEST if url.startswith("s3:") else _BEYOND

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        import tensorstore

        check_prefix(prefix)
        behind = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        with self._errors():
            keys = self._store.list(tensorstore.KvStore.KeyRange(prefix, behind)).result()
        yield from filter(is_key, (key.decode(errors="replace") for key in keys))

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``, fewer where it is shorter."""
        check_key(key)
        try:
            with self._errors():
                return self._read(key, start, end)
        except _OutOfRangeError:
            size = self._size(key)
            with self._errors():
                return self._read(key, min(start, size), min(size if end is None else end, size))

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Bring an object to a local file, 16 MiB at a time."""
        position = own_size(path, nbytes)
        piece = self.get(key, position, min(position + _PIECE, nbytes))
        with self._errors():
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                while position < nbytes:
                    # A server may send more than it was asked for, or nothing for ever.
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
                    hint="push such large tensors to a directory remote",
                )
            before = self._store.read(key, byte_range=slice(0, 0)).result()
            if before.state != "missing":
                return False
            with self._memory.taken(size):
                stamp = self._store.write(key, path.read_bytes(), if_equal=before.stamp.generation).result()
            if stamp.generation:
                return True
            # Somebody was faster, or the bucket does not exist: the stamp is the same for both.
            if self._store.read(key, byte_range=slice(0, 0)).result().state != "missing":
                return False
        raise RemoteError(
            f"{self._url}: {key} was refused, most likely as there is no such bucket",
            hint="make the bucket, or git config theta.remote.<name>.url URL",
        )

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return those of some keys that are there: nothing of ours removes objects here by their age."""
        wanted = {check_key(key) for key in keys}
        prefixes = {key[: key.find("/") + 1] for key in wanted}
        return wanted & {key for prefix in prefixes for key in self.list(prefix)}

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        check_key(key)
        with self._errors():
            self._store.write(key, None).result()

    def _read(self, key: str, start: int, end: int | None) -> bytes:
        stop = end if end is None else max(start, end)
        found = self._store.read(key, byte_range=slice(start, stop)).result()
        if found.state == "missing":
            raise MissingError(f"{key} is not in {self._url}")
        return bytes(found.value)

    def _size(self, key: str) -> int:
        """Return an object's size, which tensorstore tells only in passing."""
        with self._errors():
            self._read(key, 0, 0)
        try:
            with self._errors():
                self._read(key, _BEYOND, None)
        except _OutOfRangeError as error:
            if said := _SIZE.search(error.text):
                return int(said[1])
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
        except ValueError as error:  # what tensorstore makes of any status
            kind = _OutOfRangeError if str(error).startswith("OUT_OF_RANGE") else RemoteError
            hint = "check the credentials" if "PERMISSION_DENIED" in str(error) else None
            raise kind(f"{self._url}: {_brief(error)}", hint=hint) from error
        except OSError as error:
            raise RemoteError(f"{error.filename or self._url}: {error.strerror or error}") from error


class _OutOfRangeError(RemoteError):
    """A range ends behind the object."""

    @property
    def text(self) -> str:
        return str(self.__cause__)


class _Budget:
    """Let threads hold so many bytes together; one that wants more waits until it is alone."""

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
    """Return the smallest position that an object does not have, in about twice as many calls as that has bits.

    Args:
        has: Tells whether there is a byte at a position.
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


def _spec(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    parts = urlsplit(url)
    if unknown := set(options) - _OPTIONS:
        raise ConfigError(
            f"{url}: unknown setting {min(unknown)}", hint=f"git config --unset theta.remote.<name>.{min(unknown)}"
        )
    if parts.username or parts.query or parts.fragment:
        raise ConfigError(
            f"{parts.scheme}://…{parts.path}: only a bucket and a prefix can be in the URL",
            hint="give credentials in the environment, and the rest as theta.remote.<name>.endpoint and .region",
        )
    path = unquote(parts.path).lstrip("/").rstrip("/")
    path = path + "/" if path else ""
    if parts.scheme == "file" and not parts.netloc and path:
        return {"driver": "file", "path": "/" + path}
    if parts.scheme == "gs" and parts.netloc:
        return {
            "driver": "gcs",
            "bucket": parts.netloc,
            "path": path,
            "context": {"gcs_request_retries": _RETRIES},
        }
    if parts.scheme == "s3" and parts.netloc:
        spec = {"driver": "s3", "bucket": parts.netloc, "path": path, "context": {"s3_request_retries": _RETRIES}}
        if "endpoint" in options:
            spec["endpoint"] = options["endpoint"]
        if "region" in options:
            spec["aws_region"] = options["region"]
        if "credentials" in options:
            spec["aws_credentials"] = {"type": options["credentials"]}
        return spec
    raise ConfigError(
        f"{url} is no s3://bucket/prefix, gs://bucket/prefix or file:///folder",
        hint="git config theta.remote.<name>.url URL",
    )


def _brief(error: Exception) -> str:
    """Leave out the answer's body: it is long, and may repeat parts of the request."""
    return str(error).partition(" [")[0][:300]
