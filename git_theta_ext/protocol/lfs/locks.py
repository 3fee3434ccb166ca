"""The locking API: what is asked about locks of files, and what answers mean.

Answers come from a server that may be wrong or hostile: their size, the number of pages and the length of each text are
bounded, and a list whose pages do not end is refused.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from git_theta_ext.errors import ProtocolError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_PAGE = 1 << 22
"""Maximum size of an answer in bytes."""
PAGE = 100
"""The number of locks that an answer is asked for; servers may send fewer or more."""

_MOST_PAGES = 1000
_MOST_LOCKS = 100_000
_MOST_TEXT = 4096
_MOST_NAME = 200
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class FileLock:
    """A lock of a file: only its owner may push changes of the file.

    Attributes:
        id: Its name on the server.
        path: Path of the file relative to the top of the repository.
        owner: Name of the user who holds it; empty if the server does not say it.
        locked_at: When it was made, as the server says it: a date and time by RFC 3339, or empty.
    """

    id: str
    path: str
    owner: str
    locked_at: str


@dataclass(frozen=True)
class HeldLocks:
    """The locks of a repository: those that the user holds, and those of others."""

    ours: tuple[FileLock, ...]
    theirs: tuple[FileLock, ...]


@dataclass(frozen=True)
class Page:
    """A part of a list of locks.

    Attributes:
        locks: The locks; in the answer of a verification those of the user.
        theirs: The locks of others in the answer of a verification.
        cursor: What to ask for the next part with; None at the end.
    """

    locks: tuple[FileLock, ...]
    theirs: tuple[FileLock, ...] = ()
    cursor: str | None = None


def lock_request(path: str, ref: str | None) -> bytes:
    """Return the body of a request that makes a lock.

    Args:
        path: Path of the file.
        ref: Full name of the ref on the server that changes of the file will be pushed to.
    """
    return _body({"path": path}, ref)


def unlock_request(ref: str | None, *, force: bool) -> bytes:
    """Return the body of a request that removes a lock; with ``force`` also that of another user."""
    return _body({"force": force}, ref)


def unlock_place(name: str) -> str:
    """Return the part of the URL that removes a lock, after that of the server."""
    return f"locks/{quote(name, safe='')}/unlock"


def verify_request(cursor: str | None, ref: str | None) -> bytes:
    """Return the body of a request for a page of the locks of the user and of others."""
    return _body({"limit": PAGE, **({"cursor": cursor} if cursor else {})}, ref)


def list_place(cursor: str | None, ref: str | None, *, path: str | None, name: str | None, limit: int | None) -> str:
    """Return the part of the URL that lists a page of locks, after that of the server.

    Args:
        cursor: The cursor of the page before.
        ref: Full name of a ref on the server, whose locks are listed.
        path: Path of a file, whose lock is listed.
        name: The ``FileLock.id`` of the lock that is listed.
        limit: The number of locks that are wanted; None for all.
    """
    wanted = {"path": path, "id": name, "cursor": cursor, "limit": str(min(limit or PAGE, PAGE)), "refspec": ref}
    return "locks?" + urlencode({key: value for key, value in wanted.items() if value}, quote_via=quote)


def read_lock(data: bytes) -> FileLock:
    """Read the answer to a request that makes or removes a lock, also one that says who holds it already.

    Raises:
        ProtocolError: The answer breaks the protocol.
    """
    return _lock(_json_object(data).get("lock"))


def read_page(data: bytes, *, verified: bool) -> Page:
    """Read a page of a list of locks.

    Args:
        data: The body of the answer.
        verified: Whether the answer distinguishes the locks of the user from those of others.

    Raises:
        ProtocolError: The answer breaks the protocol.
    """
    body = _json_object(data)
    cursor = body.get("next_cursor")
    first = _locks(body, "ours" if verified else "locks")
    after = None if cursor in (None, "") else _text(cursor, "next_cursor")
    return Page(first, _locks(body, "theirs") if verified else (), after)


def all_pages(first: Page, ask: Callable[[str], Page]) -> Iterator[Page]:
    """Yield the pages of a list.

    Args:
        first: The first page.
        ask: Returns the page after a cursor.

    Raises:
        ProtocolError: The list does not end, or is longer than any that a person would read.
    """
    seen: set[str] = set()
    count, page = 0, first
    yield page
    while page.cursor is not None:
        count += len(page.locks) + len(page.theirs)
        if page.cursor in seen or len(seen) >= _MOST_PAGES or count > _MOST_LOCKS:
            raise ProtocolError("the list of locks does not end")
        seen.add(page.cursor)
        page = ask(page.cursor)
        yield page


def _body(content: Mapping[str, Any], ref: str | None) -> bytes:
    return json.dumps({**content, **({"ref": {"name": ref}} if ref else {})}).encode()


def _json_object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_PAGE:
        raise ProtocolError(f"the answer of the LFS server about locks exceeds the limit of {MAX_PAGE} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the answer of the LFS server about locks is not JSON") from error
    if not isinstance(body, dict):
        raise ProtocolError("the answer of the LFS server about locks is not a JSON object")
    return body


def _locks(body: Mapping[str, Any], key: str) -> tuple[FileLock, ...]:
    listed = body.get(key)
    if listed is None:  # some servers write an empty list so
        return ()
    if not isinstance(listed, list):
        raise ProtocolError(f"the LFS server gives locks in {key!r} that are not a list")
    return tuple(map(_lock, listed))


def _lock(value: object) -> FileLock:
    if not isinstance(value, dict):
        raise ProtocolError("the LFS server gives a lock that is not a JSON object")
    owner = value.get("owner")
    if owner is not None and not isinstance(owner, dict):
        raise ProtocolError("the LFS server gives a lock whose owner is not a JSON object")
    name = value.get("id")
    return FileLock(
        _text(str(name) if type(name) is int else name, "id"),
        _text(value.get("path"), "path"),
        _words((owner or {}).get("name"), "owner"),
        _words(value.get("locked_at"), "locked_at"),
    )


def _text(value: object, key: str) -> str:
    # A surrogate alone is no character, and cannot be printed.
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_TEXT or _NO_TEXT.search(value):
        raise ProtocolError(f"the LFS server gives locks whose {key} is no text of 1 to {_MOST_TEXT} characters")
    return value


def _words(value: object, key: str) -> str:
    """Return a text for people, on one line."""
    if value is None or value == "":
        return ""
    return " ".join(_text(value, key).split())[:_MOST_NAME]
