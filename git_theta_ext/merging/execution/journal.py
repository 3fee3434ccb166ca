"""Remember what a merge has computed and stored, so that an interrupted merge can be resumed."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.tensor import Digest, is_digest
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LARGEST = 1 << 28


@dataclass(frozen=True, slots=True)
class Result:
    """A tensor that was computed.

    Attributes:
        digest: Digest of the tensor.
        votes: Sum of the elected signs.
        ties: Number of elements that the majority decided.
    """

    digest: Digest
    votes: int
    ties: int


class Journal:
    """A file with one line for each result: an identity of its inputs and method, and the digest of the result.

    Truncated lines are skipped. Results that no manifest names are garbage after the store's usual grace period.

    Args:
        path: Path of the file; None for no journal.
        kept: Whether results are looked up and recorded; otherwise ``done`` only deletes an earlier run's file.

    Attributes:
        kept: Whether results are looked up and recorded.
    """

    def __init__(self, path: Path | None, *, kept: bool = True) -> None:
        self.kept = kept and path is not None
        self._path = path
        self._known: dict[str, Result] = {}
        with suppress(OSError):
            if path is not None and self.kept and path.stat().st_size <= _LARGEST:
                self._known = dict(filter(None, map(_entry, path.read_text(errors="replace").splitlines())))

    def get(self, identity: str) -> Result | None:
        """Return the stored result with an identity, or None."""
        return self._known.get(identity)

    def record(self, results: Iterable[tuple[Digest, tuple[str, int, int] | None]]) -> None:
        """Record results that became durable: their digest with identity, votes and ties; None is not recorded."""
        if self._path is None or not self.kept:
            return
        lines = [
            # The newline comes first because the last line may be truncated.
            "\n" + json.dumps({"identity": note[0], "digest": digest, "votes": note[1], "ties": note[2]})
            for digest, note in results
            if note is not None
        ]
        if lines:
            with suppress(OSError):  # the journal only saves time
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a") as file:
                    file.writelines(lines)

    def restore(self, results: Iterable[tuple[Any, Any]]) -> None:
        """Know and record results of an interrupted run; what is not one is skipped."""
        found = [
            (digest, note)
            for digest, note in results
            if is_digest(digest) and isinstance(note, (list, tuple)) and len(note) == len(("identity", "votes", "ties"))
        ]
        self._known |= {note[0]: Result(Digest(digest), int(note[1]), int(note[2])) for digest, note in found}
        self.record([(Digest(digest), tuple(note)) for digest, note in found])

    def done(self) -> None:
        """Delete the journal of a completed merge."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _entry(line: str) -> tuple[str, Result] | None:
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        entry = read_json(line)
        if isinstance(entry["identity"], str) and is_digest(entry["digest"]):
            return entry["identity"], Result(Digest(entry["digest"]), int(entry["votes"]), int(entry["ties"]))
    return None
