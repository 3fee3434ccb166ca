"""The local copy of an index that is a ref of a git remote.

The commits are in a bare repository of their own: no ``git push --mirror`` sends them elsewhere, and the history of the
user's repository does not become shallow. It includes the configuration of the user's repository, which has the
settings for connections. Deleting it loses nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from hashlib import sha256
from secrets import token_hex
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError, RepositoryError
from git_theta_ext.interfaces import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_theta_ext.interfaces import GitCommands

_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "push.gpgSign=false", "-c", "fetch.fsckObjects=true")


class IndexRepository:
    """A repository for the index of one git remote.

    Args:
        git: The user's repository.
        address: The address of the git remote.
    """

    def __init__(self, git: GitCommands, address: str) -> None:
        self._git = git
        self._address = address
        name = sha256(os.fsencode(address)).hexdigest()[:16]
        self._folder = git.common_dir / "theta" / "remote-index" / f"{name}.git"

    def connect(self, *args: str) -> tuple[int, str, str]:
        """Run a git command that connects to the remote; return its exit code and its output and messages."""
        done = subprocess.run(
            ["git", f"--git-dir={self._folder}", *_QUIET, *args],
            cwd=self._git.folder,
            env=self._git.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()

    def error(self, words: str) -> RemoteError:
        """Return what git says about a connection as an error."""
        shown = redacted(self._address)
        return RemoteError(f"{shown}: {redacted(words.removeprefix('fatal: '))}", hint=f"git ls-remote {quote(shown)}")

    def run(self, *args: str, data: bytes | None = None) -> bytes:
        """Run a git command and return its output.

        Raises:
            RemoteError: It failed.
        """
        try:
            return self._git.run(f"--git-dir={self._folder}", *_QUIET, *args, input=data)
        except RepositoryError as error:
            raise RemoteError(f"{redacted(self._address)}: {redacted(error.message)}", hint=error.hint) from error

    def renew(self) -> None:
        """Replace the repository with an empty one. The caller holds the lock."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._make()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time change the repository: git cannot fetch twice into one without history.

        Git commands that were killed leave lock files, which then belong to nobody.
        """
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            file = self._folder.with_suffix(".lock").open("ab")
        except OSError as error:
            raise RemoteError(f"{error.filename}: {error.strerror or error}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                left = []
            else:
                left = [*self._folder.glob("*.lock"), *self._folder.glob("refs/**/*.lock")]
            for path in left:
                path.unlink(missing_ok=True)
            self._make()
            yield

    def _make(self) -> None:
        if self._folder.is_dir():
            return
        kind = self._git.run("rev-parse", "--show-object-format").decode().strip()
        made = self._folder.with_name(f"{self._folder.name}.{token_hex(4)}")
        try:
            for part in ("objects", "refs"):
                (made / part).mkdir(parents=True)
            (made / "HEAD").write_bytes(b"ref: refs/heads/none\n")
            (made / "config").write_bytes(_configuration(self._git.common_dir / "config", kind))
            try:
                made.rename(self._folder)
            except OSError:
                if not self._folder.is_dir():  # unless another process was faster
                    raise
        except OSError as error:
            raise RemoteError(f"{error.filename}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _configuration(included: Path, object_format: str) -> bytes:
    path = os.fsencode(included).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    lines = [b"[include]", b'\tpath = "' + path + b'"', b"[core]", b"\tbare = true"]
    if object_format == "sha256":
        lines += [b"\trepositoryformatversion = 1", b"[extensions]", b"\tobjectFormat = sha256"]
    else:
        lines += [b"\trepositoryformatversion = 0"]
    return b"".join(line + b"\n" for line in lines)
