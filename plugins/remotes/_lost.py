"""Remember the packs that an index names and the remote lacks, also in later commands, until they are sent again."""

from __future__ import annotations

import re
from contextlib import suppress
from hashlib import sha256
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{64}")
_STATE = "state "
_MOST_BYTES = 1 << 24


def digest_of(state: str) -> str:
    """Return what is kept of a state."""
    return sha256(state.encode()).hexdigest() if state else ""


class LostPacks:
    """Names of packs, in a file. Deleting it loses nothing: they will be missed again.

    Somebody else may send them again. So a remote asks for them again, or compares its state with that of the loss.

    Args:
        path: The file.

    Attributes:
        state: What the remote said of itself when it lacked them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        lines = self._read()
        self._names = frozenset(filter(_NAME.fullmatch, lines))
        self.state = next((line.removeprefix(_STATE) for line in lines if line.startswith(_STATE)), "")

    def names(self) -> frozenset[str]:
        """Return the names."""
        with self._lock:
            return self._names

    def add(self, names: Iterable[str], state: str = "") -> None:
        """Add packs that the remote lacks in a state, of which the digest is kept."""
        self.state = digest_of(state)
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
                lines = [f"{_STATE}{self.state}", *sorted(names)]
                temporary.write_text("".join(f"{line}\n" for line in lines))
                temporary.replace(self._path)
            except OSError:  # they will be missed again
                with suppress(OSError):
                    temporary.unlink()

    def _read(self) -> list[str]:
        with suppress(OSError, UnicodeDecodeError):
            if self._path.stat().st_size <= _MOST_BYTES:
                return self._path.read_text().splitlines()
        return []
