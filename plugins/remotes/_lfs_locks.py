"""The locks of an LFS server, which git-lfs uses as well."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import ProtocolError, RemoteError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.endpoints import without_user
from git_theta_ext.protocol.lfs.locks import (
    MAX_PAGE,
    HeldLocks,
    all_pages,
    list_place,
    lock_request,
    read_lock,
    read_page,
    unlock_place,
    unlock_request,
    verify_request,
)

from ._lfs_server import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.protocol.lfs.locks import FileLock, Page

    from ._git_settings import GitSettings
    from ._lfs_server import LfsServer

_CONFLICT, _NOT_FOUND = 409, 404
_NO_LOCKS = frozenset({_NOT_FOUND, 405, 501})


class LfsLocks:
    """See ``Locks``.

    Args:
        server: The server.
        settings: Settings of git.
    """

    def __init__(self, server: LfsServer, settings: GitSettings) -> None:
        self._server = server
        self._settings = settings

    @property
    def checked(self) -> bool | None:
        """Whether pushes check locks: ``lfs.<url>.locksverify``, and then ``lfs.locksverify``."""
        return self._settings.locks_verify(self._server.url("upload") or "")

    def lock(self, path: str, ref: str | None) -> FileLock | None:
        """Lock a file; returns None if it is locked already."""

        def read(status: int, data: bytes) -> FileLock | None:
            return None if status == _CONFLICT else read_lock(_supported(status, data))

        answers = _NO_LOCKS | {_CONFLICT}
        return self._server.ask(Question("upload", "locks", lock_request(path, ref), read, answers, MAX_PAGE, None))

    def unlock(self, name: str, ref: str | None, *, force: bool) -> bool:
        """Remove a lock, and return whether there was such a lock."""
        unknown: list[None] = []

        def read(status: int, _: bytes) -> bool:
            return status != _NOT_FOUND or bool(unknown)  # a try whose answer did not arrive may have removed it

        body = unlock_request(ref, force=force)
        question = Question("upload", unlock_place(name), body, read, frozenset({_NOT_FOUND}), MAX_PAGE, None)
        return self._server.ask(question, failed=lambda: unknown.append(None))

    def find(self, ref: str | None, *, path: str | None, name: str | None, limit: int | None) -> list[FileLock]:
        """List locks, at most ``limit``."""

        def read(status: int, data: bytes) -> Page:
            page = read_page(_supported(status, data), verified=False)
            # A server need not know every way to filter.
            wanted = (lock for lock in page.locks if path in {None, lock.path} and name in {None, lock.id})
            return replace(page, locks=tuple(wanted))

        def ask(cursor: str | None) -> Page:
            place = list_place(cursor, ref, path=path, name=name, limit=limit)
            return self._server.ask(Question("download", place, None, read, _NO_LOCKS, MAX_PAGE, None))

        found: list[FileLock] = []
        for page in self._all(ask(None), ask):
            found += page.locks
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    def verify(self, ref: str | None) -> HeldLocks | None:
        """Return all locks, and which of them the user holds; None if the server has no locks."""
        try:
            return self._verified(ref)
        except RemoteError as error:
            skip = f"git config {quote(f'lfs.{self._url}.locksverify')} false pushes without checking locks"
            raise type(error)(error.message, hint=error.hint or skip) from error

    def _verified(self, ref: str | None) -> HeldLocks | None:
        def read(status: int, data: bytes) -> Page | None:
            return None if status in _NO_LOCKS else read_page(data, verified=True)

        def ask(cursor: str | None) -> Page | None:
            body = verify_request(cursor, ref)
            return self._server.ask(Question("upload", "locks/verify", body, read, _NO_LOCKS, MAX_PAGE, None))

        def ask_further(cursor: str) -> Page:
            page = ask(cursor)
            if page is None:
                raise ProtocolError("the list of locks ends with an error")
            return page

        first = ask(None)
        if first is None:
            return None
        pages = list(self._all(first, ask_further))
        return HeldLocks(
            tuple(lock for page in pages for lock in page.locks), tuple(lock for page in pages for lock in page.theirs)
        )

    @property
    def _url(self) -> str:
        return redacted(without_user(self._server.url("upload") or ""))

    def _all(self, first: Page, ask: Callable[[str], Page]) -> Iterator[Page]:
        try:
            yield from all_pages(first, ask)
        except ProtocolError as error:
            raise RemoteError(f"{self._url}: {error.message}") from error


def _supported(status: int, data: bytes) -> bytes:
    """Return the body of an answer.

    Raises:
        ProtocolError: The server does not have the locking API.
    """
    if status in _NO_LOCKS:
        raise ProtocolError(f"the LFS server has no locks (status {status})")
    return data
