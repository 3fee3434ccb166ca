"""Index entries of one push in one object, so that neither a push nor a clone sends a request for each of them.

The object is ``heads/<sha256>``, named by its content. What was read once is kept in the local repository.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError

from ._index_format import MAX_HEADS, is_heads_path, join_heads, split_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

FOLDER = "heads/"
_READERS = 8


class Heads:
    """The index entries in such objects.

    Args:
        names: Lists the keys of the objects.
        read: Reads an object, up to a number of bytes.
        cache: A directory for what was read, also of other remotes. It need not exist; None keeps nothing.
    """

    def __init__(
        self, names: Callable[[], Iterable[str]], read: Callable[[str, int], bytes], cache: Path | None
    ) -> None:
        self._names = names
        self._read = read
        self._cache = cache
        self._entries: dict[str, bytes] = {}
        self._done: set[str] = set()
        self._lock = Lock()

    def get(self, pack: str) -> bytes | None:
        """Return the index entry of a pack, if it is in an object that was read."""
        return self._entries.get(pack)

    def refresh(self) -> Iterable[str]:
        """Read the objects that were not read yet, and return the names of all packs with entries.

        An object that is damaged counts as missing. Then the entries are read from the packs.
        """
        with self._lock:
            keys = set(filter(is_heads_path, self._names()))
            with ThreadPoolExecutor(_READERS) as executor:
                for entries in executor.map(self._entries_of, sorted(keys - self._done)):
                    self._entries.update(entries)
            self._done |= keys
            return set(self._entries)

    def add(self, entries: Mapping[str, bytes], write: Callable[[str, bytes], object]) -> None:
        """Write an object with some entries, by the names of their packs."""
        data = join_heads(entries)
        key = FOLDER + sha256(data).hexdigest()
        write(key, data)
        self._keep(key, data)
        with self._lock:
            self._entries.update(entries)
            self._done.add(key)

    def _entries_of(self, key: str) -> dict[str, bytes]:
        data = None
        if self._cache is not None:
            with suppress(OSError):
                data = self._cache.joinpath(key.removeprefix(FOLDER)).read_bytes()
        cached = data is not None and _is_named(key, data)
        try:
            content = data if data is not None and cached else self._read(key, MAX_HEADS)
            entries = split_heads(content) if _is_named(key, content) else {}
        except (CorruptError, MissingError):
            return {}
        if entries and not cached:
            self._keep(key, content)
        return entries

    def _keep(self, key: str, data: bytes) -> None:
        if self._cache is None:
            return
        path = self._cache / key.removeprefix(FOLDER)
        temporary = path.with_name(f"tmp~{token_hex(8)}")
        with suppress(OSError):  # then it is read again next time
            self._cache.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)


def _is_named(key: str, data: bytes) -> bool:
    return key == FOLDER + sha256(data).hexdigest()
