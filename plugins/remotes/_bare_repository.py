"""A bare repository that is separate from the user's, for what belongs to a remote.

No ``git push --mirror`` sends its commits elsewhere, and the history of the user's repository does not become shallow.
It includes the configuration of the user's repository, which has the settings for connections.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from secrets import token_hex
from shlex import quote
from typing import IO, TYPE_CHECKING

from git_theta_ext.errors import RemoteError, RemoteTimeoutError, RepositoryError
from git_theta_ext.interfaces import lock, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.interfaces import GitCommands

_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "push.gpgSign=false", "-c", "fetch.fsckObjects=true")
_ENGLISH = {"LC_ALL": "C"}
"""What git says is read."""
_SILENT = "Operation too slow"
_SENT = re.compile(r"Writing objects:.*, ([0-9.]+) (bytes|[KMG]iB)")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PROGRESS = re.compile(r"(remote: )?[A-Z][a-z]+ (objects|deltas): |Delta compression |Total \d|To ")
_NOBODY = "git theta <git-theta@localhost> "


class BareRepository:
    """A bare repository, made when it is first needed.

    Args:
        git: The local repository.
        address: The address of the git remote.
        folder: The git directory. Deleting it loses nothing.
        options: Arguments before every command.
    """

    def __init__(self, git: GitCommands, address: str, folder: Path, options: tuple[str, ...] = ()) -> None:
        self.url = redacted(address)
        self.folder = folder
        self._git = git
        self._address = address
        self._start = (f"--git-dir={folder}", *_QUIET, *options)

    def run(self, *args: str, data: bytes | None = None) -> bytes:
        """Run a git command and return what it prints.

        Raises:
            RemoteError: It failed.
        """
        try:
            return self._git.run(*self._start, *args, input=data)
        except RepositoryError as error:
            raise RemoteError(f"{self.url}: {redacted(error.message)}", hint=error.hint) from error

    def connect(self, command: tuple[str, ...], *args: str) -> tuple[int, str, str]:
        """Run a git command that connects to the remote.

        Args:
            command: The command and its options.
            args: Its arguments after the address.

        Returns:
            Its exit code, its output and its messages.
        """
        done = subprocess.run(
            ["git", *self._start, *command, self._address, *args],
            cwd=self._git.folder,
            env={**self._git.environment(), **_ENGLISH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()

    def push(self, command: tuple[str, ...], refspec: str, sent: Callable[[int], None]) -> tuple[int, str, str]:
        """Run ``git push`` as ``connect`` does.

        Args:
            command: The command and its options.
            refspec: What is pushed.
            sent: Called with the number of bytes that were sent.
        """
        process = subprocess.Popen(
            ["git", *self._start, *command, "--progress", self._address, refspec],
            cwd=self._git.folder,
            env={**self._git.environment(), **_ENGLISH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                words = "".join(_messages(process, sent))
                output = process.stdout.read() if process.stdout else b""
            finally:
                process.kill()  # unless it has ended
        return process.returncode, output.decode(errors="replace"), words.strip()

    def start(
        self,
        *args: str,
        messages: IO[bytes],
        environment: Mapping[str, str] | None = None,
        address: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a git command with pipes for its input and output.

        Args:
            args: The command and its arguments.
            messages: The file that its messages are written to.
            environment: Variables that are added to the environment.
            address: Whether the address of the remote is the last argument.
        """
        return subprocess.Popen(
            ["git", *self._start, *args, *((self._address,) if address else ())],
            cwd=self._git.folder,
            env={**self._git.environment(), **_ENGLISH, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
        )

    def error(self, words: str) -> RemoteError:
        """Return what git says about a connection as an error."""
        words = redacted(words.removeprefix("fatal: "))
        if _SILENT in words:
            hint = "git config theta.remote.NAME.timeout SECONDS waits longer"
            return RemoteTimeoutError(f"{self.url}: {words}", hint=hint)
        return RemoteError(f"{self.url}: {words}", hint=f"git ls-remote {quote(self.url)}")

    def identity(self) -> str:
        """Return the committer of a commit that is made now."""
        try:
            return self.run("var", "GIT_COMMITTER_IDENT").decode(errors="replace").strip()
        except RemoteError:
            return f"{_NOBODY}{int(time.time())} +0000"

    def renew(self) -> None:
        """Replace the repository with an empty one. The caller holds the lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.make()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time change the repository: git cannot fetch twice into one without history.

        Git commands that were killed leave lock files, which then belong to nobody.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            file = self.folder.with_suffix(".lock").open("ab")
        except OSError as error:
            raise RemoteError(f"{error.filename}: {error.strerror or error}") from error
        with file:
            try:
                lock(file)
            except OSError:  # a file system without locks
                left = []
            else:
                left = [*self.folder.glob("*.lock"), *self.folder.glob("refs/**/*.lock")]
            for path in left:
                path.unlink(missing_ok=True)
            self.make()
            yield

    def make(self) -> None:
        """Make the repository unless it exists.

        Raises:
            RemoteError: The disk is full, or a directory cannot be written.
        """
        if self.folder.is_dir():
            return
        kind = self._git.run("rev-parse", "--show-object-format").decode().strip()
        made = self.folder.with_name(f"{self.folder.name}.{token_hex(4)}")
        try:
            for part in ("objects", "refs"):
                (made / part).mkdir(parents=True)
            (made / "HEAD").write_bytes(b"ref: refs/heads/none\n")
            (made / "config").write_bytes(_configuration(self._git.common_dir / "config", kind))
            try:
                made.rename(self.folder)
            except OSError:
                if not self.folder.is_dir():  # unless another process was faster
                    raise
        except OSError as error:
            raise RemoteError(f"{error.filename}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _messages(process: subprocess.Popen[bytes], sent: Callable[[int], None]) -> Iterator[str]:
    """Yield the messages of ``git push --progress`` without those about progress."""
    rest = ""
    while process.stderr and (data := os.read(process.stderr.fileno(), 1 << 16)):
        *lines, rest = re.split(r"(?<=[\r\n])", rest + data.decode(errors="replace"))
        for line in lines:
            if match := _SENT.match(line):
                sent(int(float(match[1]) * _UNITS[match[2]]))
            elif not _PROGRESS.match(line):
                yield line
    yield rest


def _configuration(included: Path, object_format: str) -> bytes:
    path = os.fsencode(included).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    lines = [b"[include]", b'\tpath = "' + path + b'"', b"[core]", b"\tbare = true"]
    if object_format == "sha256":
        lines += [b"\trepositoryformatversion = 1", b"[extensions]", b"\tobjectFormat = sha256"]
    else:
        lines += [b"\trepositoryformatversion = 0"]
    return b"".join(line + b"\n" for line in lines)
