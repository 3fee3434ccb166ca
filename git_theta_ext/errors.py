"""All errors that users see: a message, a hint and a stable exit code.

Raise the narrowest class that fits. The message names the file and, if there is one, the parameter. The first line of a
class's docstring describes its exit code in the documentation.
"""

from __future__ import annotations

import pathlib

_TORCH_HAS_NO_MEMORY = "can't allocate memory"


class ThetaError(Exception):
    """An error that the user can understand and solve.

    Args:
        message: What is wrong, naming the file and the parameter.
        hint: The command or edit that solves it, without a full stop.

    Attributes:
        exit_code: That of a command that ends with the error.
        topic: The page that explains errors of the class, as ``git theta help`` takes it; None if the hint says all
            there is to say, as of a command line, a revision, or a bug.
    """

    exit_code = 1
    topic: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(ThetaError):
    """The command line is not valid."""

    exit_code = 2


class RepositoryError(ThetaError):
    """There is no git repository, or git refused a request."""

    exit_code = 3


class FormatError(ThetaError):
    """A checkpoint does not follow its format."""

    exit_code = 4
    topic = "formats"


class ManifestError(ThetaError):
    """A manifest is not valid, or has conflicts."""

    exit_code = 5
    topic = "manifest"


class CorruptError(ThetaError):
    """Stored data is damaged: it does not match its digest.

    Args:
        message: What is damaged.
        hint: See ``ThetaError``.
        pack: Name of the damaged pack, if the message says it.
    """

    exit_code = 6
    topic = "maintenance"

    def __init__(self, message: str, *, hint: str | None = None, pack: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pack = pack


class MissingError(ThetaError):
    """Parameters are neither in the local store nor on a remote.

    Args:
        message: What is missing.
        hint: See ``ThetaError``.
        pack: Name of the pack that is gone from the store, if that is the reason.
    """

    exit_code = 7
    topic = "maintenance"

    def __init__(self, message: str, *, hint: str | None = None, pack: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pack = pack


class StoreError(ThetaError):
    """The store cannot be read or written: disk full, no permission, a file in the way."""

    exit_code = 8
    topic = "maintenance"


class RemoteError(ThetaError):
    """A remote cannot be reached, or refused a request."""

    exit_code = 9
    topic = "remotes"


class RemoteTimeoutError(RemoteError):
    """A remote did not answer in time, or failed again and again; another request would take as long again."""


class MergeError(ThetaError):
    """A merge cannot be done as requested."""

    exit_code = 10
    topic = "merging"


class ConfigError(ThetaError):
    """A setting is not valid."""

    exit_code = 11
    topic = "settings"


class PluginError(ThetaError):
    """A plug-in is not installed, or breaks its contract."""

    exit_code = 12
    topic = "plugins"


class ProtocolError(ThetaError):
    """A program at the other end of a pipe or connection breaks the protocol."""

    exit_code = 13


class ChangedError(ThetaError):
    """A file changed while it was read."""

    exit_code = 14

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "wait until the file is written, then run the command again")


class KeptError(ChangedError):
    """Another program saved a file in the place of a checkpoint; the file was kept.

    Args:
        path: Relative to the top of the work tree.
        argument: The path as the user types it in a command, quoted for the shell.
    """

    def __init__(self, path: str, argument: str) -> None:
        super().__init__(
            f"{path}: another program saved this file during the checkout; its file was kept",
            hint=f"git add {argument} keeps it, git checkout -- {argument} replaces it",
        )
        self.path = path


class LibraryError(ThetaError):
    """An optional library that a command needs is not installed."""

    exit_code = 15
    topic = "getting-started"


class LockedError(ThetaError):
    """A file is locked by another user, or locks that must be checked cannot be checked."""

    exit_code = 16
    topic = "collaboration"


class LimitError(ThetaError):
    """A change between two versions exceeds a limit that was given."""

    exit_code = 17
    topic = "ci"


class ClusterError(ThetaError):
    """A cluster cannot be reached, or its machines cannot run a job."""

    exit_code = 18
    topic = "scale"


class CrashError(ThetaError):
    """A bug in git theta, or not enough memory.

    Git takes lower codes of a merge driver for an answer.
    """

    exit_code = 129


class TooLittleMemoryError(CrashError):
    """There is not enough memory."""

    topic = "scale"

    def __init__(self) -> None:
        super().__init__(
            "not enough memory",
            hint="free memory, raise the limit of ulimit, or use less: git config theta.threads 1",
        )


def to_theta_error(error: Exception) -> ThetaError:
    """Return an exception as an error for the user: itself, its meaning, or a report of a bug and its place."""
    if isinstance(error, ThetaError):
        return error
    if isinstance(error, MemoryError) or _TORCH_HAS_NO_MEMORY in str(error):
        return TooLittleMemoryError()
    if isinstance(error, OSError):
        # A full disk, a directory without permission, a file in the place of a directory.
        place = f"{error.filename}: " if error.filename else ""
        return StoreError(f"{place}{error.strerror or error}", hint="check permissions and free space there")
    return CrashError(
        f"this is a bug in git theta: {type(error).__name__}: {str(error)[:300]} ({_place(error)})",
        hint="run the command again with GIT_THETA_TRACEBACK=1; report its output and that of git theta env",
    )


def _place(error: Exception) -> str:
    """Return the file and line of the innermost function of git theta in an exception's traceback."""
    from traceback import walk_tb  # what works starts without it

    frames = [(pathlib.PurePath(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    ours = [place for place in frames if any(part.startswith("git_theta") for part in place[0].parts)]
    if not frames:
        return "unknown place"
    path, line = (ours or frames)[-1]
    return f"{path.parent.name}/{path.name}:{line}"
