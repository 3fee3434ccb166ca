"""Remember the scores of candidates, so that a search that was killed goes on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.operations.search.evaluation import Evaluated
from git_theta_ext.util.files import reporting_os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.merging.search.space import Candidate

_LARGEST = 1 << 28


class Scores:
    """A file with one line for each evaluated candidate, by a digest of what was merged and how it was evaluated.

    Lines that are not complete are skipped.

    Args:
        path: Path of the file.
        fresh: Whether what it holds does not count.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self._known: dict[str, Evaluated] = {}
        with suppress(OSError):
            if not fresh and path.stat().st_size <= _LARGEST:
                for line in path.read_text("utf-8", errors="replace").splitlines():
                    with suppress(ValueError, TypeError, KeyError, OverflowError):
                        entry = read_json(line)
                        score = None if entry["score"] is None else float(entry["score"])
                        evaluated = Evaluated(score, str(entry["error"]), float(entry["seconds"]))
                        self._known[str(entry["digest"])] = evaluated

    def get(self, digest: str) -> Evaluated | None:
        """Return what is known about a candidate."""
        return self._known.get(digest)

    def add(self, digest: str, candidate: Candidate, evaluated: Evaluated) -> None:
        """Remember a result, also if this process is killed.

        Raises:
            StoreError: The file cannot be written.
        """
        self._known[digest] = evaluated
        entry = {
            "digest": digest,
            "branches": candidate.branches,
            "words": candidate.words,
            "score": evaluated.score,
            "error": evaluated.error,
            "seconds": round(evaluated.seconds, 3),
        }
        with reporting_os_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # The line feed comes first because the last line may be truncated.
            with self._path.open("ab", buffering=0) as file:
                file.write(f"\n{json.dumps(entry)}".encode())
                os.fsync(file.fileno())
