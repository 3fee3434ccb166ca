"""Run the command that evaluates a candidate, and read its score."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, Any

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.operations.search.command import PLACE
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.processes import kill_group

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST_SCRIPT = 1 << 24
_TAIL = 1 << 16
_LONGEST = 200


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation.

    Attributes:
        score: The score; None if there is none.
        error: Why there is none.
        seconds: How long it took.
    """

    score: float | None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """How candidates are evaluated.

    Attributes:
        words: The command, with ``{checkpoint}`` for the path.
        key: The key of the score, if the command prints a JSON object.
        timeout: Seconds after which a command is ended; None to wait for ever.
    """

    words: tuple[str, ...]
    key: str = "score"
    timeout: float | None = None
    _running: set[int] = field(default_factory=set, compare=False)
    _stopped: Event = field(default_factory=Event, compare=False)

    def identity(self) -> Mapping[str, Any]:
        """Return what a score depends on besides the candidate: the command, and the script that it runs.

        The script is the first argument that is a file. Others may be files that the command writes.
        """
        from blake3 import blake3

        scripts = (Path(word) for word in self.words[1:])
        script = next((path for path in scripts if path.is_file() and path.stat().st_size <= _LARGEST_SCRIPT), None)
        content = None if script is None else blake3(script.read_bytes()).hexdigest()
        return {"command": self.words, "script": content, "key": self.key}

    def run(self, place: Path) -> Evaluated:
        """Evaluate a checkpoint, or a directory with a model.

        Args:
            place: Its path.
        """
        words = [word.replace(PLACE, str(place)) for word in self.words]
        start = time.monotonic()
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complained:
            try:
                # A group of its own, so that what it starts ends with it.
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=printed, stderr=complained, start_new_session=True
                )
            except OSError as error:
                return Evaluated(None, f"cannot start {words[0]}: {error.strerror}")
            self._running.add(process.pid)
            if self._stopped.is_set():  # while it was started
                kill_group(process.pid)
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                process.wait()
                return Evaluated(None, f"timed out after {self.timeout:g} s", time.monotonic() - start)
            finally:
                self._running.discard(process.pid)
            seconds = time.monotonic() - start
            if code:
                said = _last_line(complained) or _last_line(printed)
                what = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
                return Evaluated(None, f"{what}: {said}" if said else what, seconds)
            score, wrong = read_score(_last_line(printed), self.key)
            return Evaluated(score, wrong, seconds)

    def stop(self) -> None:
        """End all commands that are running, and those that are about to."""
        self._stopped.set()
        for process in list(self._running):
            kill_group(process)


def read_score(line: str, key: str) -> tuple[float | None, str]:
    """Read a score, and what is wrong with it.

    Args:
        line: The last line that a command printed: a number, or a JSON object.
        key: The key of the score in an object.
    """
    value: object = None
    with suppress(ValueError):
        value = float(line)
    if value is None:
        with suppress(ValueError):
            value = read_json(line)
        if isinstance(value, dict):
            if key not in value:
                return None, f"the last line has no key {key!r}: {_short(line)}"
            value = value[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None, f"the last line is not a score: {_short(line)}" if line else "nothing was printed"
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    return (score + 0.0, "") if math.isfinite(score) else (None, f"the score is {score}")


def _last_line(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _short(line: str) -> str:
    return json.dumps(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…", ensure_ascii=False)
