"""Remember the packs that an index names and the remote lacks, also in later commands, until they are sent again."""

from __future__ import annotations

import re
from contextlib import suppress
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 1 << 24


class LostPacks:
    """Names of packs, in a file. Deleting it loses nothing: they will be missed again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._names = frozenset(self._read())

    def names(self) -> frozenset[str]:
        """Return the names."""
        with self._lock:
            return self._names

    def add(self, names: Iterable[str]) -> None:
        """Add packs that the remote lacks."""
        self._change(added=frozenset(names))

    def remove(self, names: Iterable[str]) -> None:
        """Remove packs that the remote has now."""
        self._change(removed=frozenset(names))

    def _change(self, added: frozenset[str] = frozenset(), removed: frozenset[str] = frozenset()) -> None:
        with self._lock:
            names = (self._names | added) - removed
            if names == self._names:
                return
            self._names = names
            temporary = self._path.with_name(f"{self._path.name}.{token_hex(4)}")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text("".join(f"{name}\n" for name in sorted(names)))
                temporary.replace(self._path)
            except OSError:  # they will be missed again
                with suppress(OSError):
                    temporary.unlink()

    def _read(self) -> Iterable[str]:
        with suppress(OSError, UnicodeDecodeError):
            if self._path.stat().st_size <= _MOST_BYTES:
                return [line for line in self._path.read_text().splitlines() if _NAME.fullmatch(line)]
        return []
