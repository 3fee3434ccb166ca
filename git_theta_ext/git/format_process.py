"""Ask git for the formats of checkpoints, one after another, through one process."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.attributes import DRIVER, FORMAT_ATTRIBUTE, UNSET

if TYPE_CHECKING:
    from git_theta_ext.git.objects import Git

_FIELDS = 6
"""Path, attribute and value, for either attribute."""
_PIECE = 1 << 16


class FormatProcess:
    """A ``git check-attr`` that is started for the first path.

    It reads each ``.gitattributes`` once, as git itself does, so it should live as long as one command of git.

    Args:
        git: The repository.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None

    def format_of(self, path: str) -> str | None:
        """Return the ``theta-format`` attribute of a path; None if it has none, or if its filter is not ours.

        Args:
            path: Path relative to the top of the work tree.

        Raises:
            RepositoryError: The process ended.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        try:
            os.write(process.stdin.fileno(), os.fsencode(path) + b"\0")
            while answer.count(b"\0") < _FIELDS:
                piece = os.read(process.stdout.fileno(), _PIECE)
                if not piece:
                    raise RepositoryError(f"git check-attr stopped at {path!r}")
                answer += piece
        except OSError as error:
            raise RepositoryError(f"git check-attr stopped at {path!r}") from error
        fields = answer.split(b"\0")
        chosen = os.fsdecode(fields[5])
        return chosen if os.fsdecode(fields[2]) == DRIVER and chosen not in UNSET else None

    def close(self) -> None:
        """End the process if it was started."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(
            ["git", "check-attr", "-z", "--stdin", "filter", FORMAT_ATTRIBUTE],
            cwd=self._git.folder,
            env={**self._git.environment(), "GIT_FLUSH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return process
