"""What a merge has computed and stored so far, so that one that was killed goes on where it was."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.tensor import Digest, is_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LARGEST = 1 << 28


@dataclass(frozen=True, slots=True)
class Result:
    """A tensor that was computed.

    Attributes:
        digest: Of the tensor.
        votes: Sum of the signs that were elected.
        ties: Number of elements that the majority decided.
    """

    digest: Digest
    votes: int
    ties: int


class Journal:
    """A file with a line for each result: what was merged how, and what came of it.

    A line that was cut short is passed over. Results that nobody named are garbage after the store's usual grace.

    Args:
        path: Of the file; None keeps no journal.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Result] = {}
        with suppress(OSError):
            if path is not None and path.stat().st_size <= _LARGEST:
                self._known = dict(filter(None, map(_entry, path.read_text(errors="replace").splitlines())))

    def get(self, identity: str) -> Result | None:
        """Return a result, if it was stored before."""
        return self._known.get(identity)

    def record(self, results: Iterable[tuple[Digest, tuple[str, int, int] | None]]) -> None:
        """Note results that became durable: digest, with identity, votes and ties where it is to be remembered."""
        lines = [
            # Begun with a line feed: the last line may have been cut short.
            "\n" + json.dumps({"identity": note[0], **asdict(Result(digest, *note[1:]))})
            for digest, note in results
            if note is not None
        ]
        if self._path is not None and lines:
            with suppress(OSError):  # it would only have saved time
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a") as file:
                    file.writelines(lines)

    def done(self) -> None:
        """Forget everything: the merge is complete."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _entry(line: str) -> tuple[str, Result] | None:
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        found = read_json(line)
        if isinstance(found["identity"], str) and is_digest(found["digest"]):
            return found["identity"], Result(Digest(found["digest"]), int(found["votes"]), int(found["ties"]))
    return None
