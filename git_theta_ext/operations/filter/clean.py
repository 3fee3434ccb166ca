"""Answer a clean request with the manifest of the bytes that git sends, which may be read from the file itself."""

from __future__ import annotations

import os
import stat
from threading import Thread
from typing import IO, TYPE_CHECKING

from git_theta_ext.checkpoint.stat_cache import StatCache, is_settled
from git_theta_ext.errors import ChangedError, FormatError, ManifestError, StoreError, ThetaError
from git_theta_ext.git.caller import calling_command, holds_open
from git_theta_ext.model.manifest import MAGIC, MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.model.manifest_text import MARK
from git_theta_ext.operations.filter.content_check import check_content, refuse_shown_text
from git_theta_ext.store.temporary import spool
from git_theta_ext.util.file_bytes import FileBytes
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.system import NOFOLLOW, open_file
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.checkpoint.clean import Described
    from git_theta_ext.git.format_process import FormatProcess
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace

LOOKING = frozenset({"blame", "diff", "diff-files", "diff-index", "ls-files", "status"})
"""Git commands that clean a file only to inspect it: they do not add the manifest to an index."""

_SHOWING_TEXT = frozenset({"annotate", "blame"})
"""Git commands that clean the text which ``git-theta textconv`` prints for the file of the work tree."""

_UNCHANGED = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev")


class CleanRequest:
    """Receives the content piece by piece, then returns its manifest.

    All that git sends must be read, even if it is not needed. If it is the content of the file at the path, the file
    itself is hashed and stored meanwhile; otherwise the content is first written to a temporary file.

    Args:
        workspace: The repository and its store.
        pathname: Path relative to the top of the work tree.
        formats: Knows the ``theta-format`` attribute.
        advance: Called with the number of bytes stored since the last call.
    """

    def __init__(
        self,
        workspace: Workspace,
        pathname: str,
        formats: FormatProcess,
        advance: Callable[[int], None] = no_progress,
    ) -> None:
        self._formats = formats
        self._advance = advance
        self._workspace = workspace
        self._root = workspace.store.root
        self._pathname = pathname
        self._head = bytearray()
        self._decided = False
        self._received = 0
        self._spool: IO[bytes] | None = None
        self._reading: _FileReading | None = None

    def content(self, data: memoryview) -> None:
        """Receive the next bytes."""
        self._received += data.nbytes
        if not self._decided:
            self._head += data
            if len(self._head) >= len(MAGIC):
                self._decide()
        elif self._spool is not None:
            with reporting_os_errors(self._root):
                self._spool.write(data)
        elif self._reading is None:
            if self._received > MAX_MANIFEST:
                raise ManifestError(f"{self._pathname}: the manifest exceeds {MAX_MANIFEST} bytes")
            self._head += data

    def end(self) -> bytes:
        """Return the manifest of the content, or nothing for an empty file, which git itself stores.

        Raises:
            ManifestError: The content is a manifest that is invalid or has conflicts.
            FormatError: The checkpoint is malformed, and ``theta.strict`` is set.
            ChangedError: The checkpoint changed while it was read.
            StoreError: The store cannot be written.
        """
        if not self._decided:
            self._decide()
        if self._reading is not None:
            return self._reading.result(self._received)
        if self._spool is not None:
            with reporting_os_errors(self._root):
                self._spool.flush()
                data = FileBytes(self._spool.fileno(), self._pathname)
            format_name = self._formats.format_of(self._pathname)
            described = _store(self._workspace, data, format_name, self._advance)
            _report(self._workspace, data, described, format_name)
            # In git's index, the size 0 stands for a file that was not looked at, unless it is the empty blob's.
            return described.manifest.to_bytes() if self._received else b""
        content = bytes(self._head)
        if content.startswith(MARK):
            return content
        return echo_manifest(self._workspace.repo, content, self._pathname, allow_conflicts=_inspecting())

    def close(self) -> None:
        """Release the resources of the request, also after a failure."""
        if self._reading is not None:
            self._reading.close()
        if self._spool is not None:
            self._spool.close()

    def _decide(self) -> None:
        self._decided = True
        if is_manifest(bytes(self._head)) or (self._head.startswith(MARK) and _calling() in _SHOWING_TEXT):
            return
        self._reading = _FileReading.begin(self._workspace, self._pathname, self._formats, self._advance)
        if self._reading is None:
            with reporting_os_errors(self._root):
                self._spool = spool(self._root)
                self._spool.write(self._head)
        self._head.clear()


class _FileReading:
    """Reads the file that git sends in a thread, while the bytes from git are received and dropped."""

    def __init__(
        self,
        workspace: Workspace,
        pathname: str,
        descriptor: int,
        formats: FormatProcess,
        advance: Callable[[int], None],
    ) -> None:
        self._formats = formats
        self._pathname = pathname
        self._advance = advance
        self._workspace = workspace
        self._path = workspace.repo.folder / pathname
        self._descriptor = descriptor
        self._before = os.fstat(descriptor)
        self._cache = StatCache(workspace.store)
        self._format: str | None = None
        self._cached: bytes | None = None
        self._stored: tuple[FileBytes, Described] | None = None
        self._clock = 0
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    @classmethod
    def begin(
        cls, workspace: Workspace, pathname: str, formats: FormatProcess, advance: Callable[[int], None]
    ) -> _FileReading | None:
        """Start if git sends the file at the path; return None if it sends other content, or that is unknown."""
        try:
            descriptor = open_file(workspace.repo.folder / pathname, os.O_RDONLY | NOFOLLOW)
        except OSError:
            return None
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or not before.st_size or not holds_open(before, os.getppid()):
            os.close(descriptor)
            return None
        return cls(workspace, pathname, descriptor, formats, advance)

    def _work(self) -> None:
        try:
            self._format = self._formats.format_of(self._pathname)
            self._cached = self._cache.get(self._path, self._format)
            if self._cached is None:
                self._clock = self._cache.clock(self._path)
                data = FileBytes(self._descriptor, self._pathname, settled=is_settled(self._before, self._clock))
                self._stored = data, _store(self._workspace, data, self._format, self._advance)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that calls result
            self._error = error

    def result(self, received: int) -> bytes:
        """Wait for the manifest.

        Args:
            received: Number of bytes that git sent.
        """
        self._thread.join()
        after = os.fstat(self._descriptor)
        same = all(getattr(self._before, name) == getattr(after, name) for name in _UNCHANGED)
        # A file that is being written may be malformed.
        if self._error is not None and (same or not isinstance(self._error, FormatError)):
            raise self._error
        if not same or received != after.st_size:
            raise ChangedError(f"{self._pathname} changed while it was read")
        if self._cached is not None:
            return self._cached
        assert self._stored is not None
        data, described = self._stored
        _report(self._workspace, data, described, self._format)
        manifest = described.manifest.to_bytes()
        if described.scan.malformed is None:  # else theta.strict counts whenever the file is added again
            self._cache.put(self._path, after, manifest, self._format, self._clock)
        return manifest

    def close(self) -> None:
        """Wait for the thread and close the file; further calls do nothing."""
        self._thread.join()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _store(workspace: Workspace, data: FileBytes, format_name: str | None, advance: Callable[[int], None]) -> Described:
    """Store a checkpoint.

    A command that only inspects files needs nothing stored, so it also works with a read-only store.
    """
    from git_theta_ext.checkpoint.clean import clean, describe

    def strict() -> bool:
        from git_theta_ext.git.tracked_config import is_strict  # most filters need it for no file

        return not _inspecting() and is_strict(workspace.repo)

    if not _inspecting():
        refuse_shown_text(workspace.repo, data.path, data)
    try:
        return clean(data, data.path, workspace.store, format_name, advance, strict=strict)
    except StoreError:
        if not _inspecting():
            raise
        store = workspace.store
        return describe(data, data.path, format_name, threads=store.threads, root=store.root)


def _report(workspace: Workspace, data: FileBytes, described: Described, format_name: str | None) -> None:
    note = check_content(workspace, data.path, described, data, format_name)
    if note:
        workspace.reporter.note(note)


def _inspecting() -> bool:
    return _calling() in LOOKING


def _calling() -> str | None:
    return calling_command(os.getppid())


def echo_manifest(repo: Repository, data: bytes, path: str, *, allow_conflicts: bool = False) -> bytes:
    """Return unchanged a manifest that git sends in place of its checkpoint.

    Args:
        repo: The repository.
        data: The manifest.
        path: Path of the file, for messages.
        allow_conflicts: Whether it may have conflicts.

    Raises:
        ManifestError: It is invalid or still has conflicts; the message names the file.
    """
    try:
        manifest = Manifest.parse(data)
    except ThetaError as error:
        raise ManifestError(
            f"{shown_path(path)}: {error.message}", hint=f"git checkout HEAD -- {repo.argument(path)}"
        ) from error
    if manifest.conflicted and not allow_conflicts:
        raise ManifestError(f"{shown_path(path)} has merge conflicts", hint=f"git theta resolve {repo.argument(path)}")
    return data
