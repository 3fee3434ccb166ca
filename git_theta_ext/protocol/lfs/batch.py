"""The Batch API: ask an LFS server how to transfer objects, and read its answer.

Answers come from a server that may be wrong or hostile: their size is bounded, an address must be one of ``http`` or
``https``, and a header must not be able to change the framing of a request.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from git_theta_ext.errors import ProtocolError
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.protocol.lfs.pointer import Pointer

Operation = Literal["upload", "download"]

MEDIA_TYPE = "application/vnd.git-lfs+json"
MAX_OBJECTS = 100
"""The number of objects in a request; servers may refuse more."""
MAX_ANSWER = 1 << 23
"""Maximum size of an answer in bytes. A multipart upload has a signed address for each part."""

_MAX_TEXT = 1 << 16
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_MOST_SECONDS = 1 << 31


@dataclass(frozen=True)
class Action:
    """A request that an answer allows.

    Attributes:
        href: Address, on any host.
        header: The headers to send, and no others that identify the user.
        expires: When the action is no longer valid, in seconds since 1970; None if the server does not say it.
    """

    href: str
    header: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    expires: float | None = None


@dataclass(frozen=True)
class Refusal:
    """The error of one object: a code as the status codes of HTTP, and the message of the server."""

    code: int
    message: str


@dataclass(frozen=True)
class Answer:
    """The answer for one object.

    Attributes:
        pointer: The object.
        transfer: Name of the way to transfer it: ``basic``, or ``multipart`` as Hugging Face has it.
        action: The upload or download; None if there is an error or, for an upload, if the server has the object.
        verify: What to call after an upload.
        error: Why the object cannot be transferred.
    """

    pointer: Pointer
    transfer: str = "basic"
    action: Action | None = None
    verify: Action | None = None
    error: Refusal | None = None


def batch_request(operation: Operation, pointers: Iterable[Pointer]) -> bytes:
    """Return the body of a request for at most ``MAX_OBJECTS`` objects."""
    return json.dumps(
        {
            "operation": operation,
            "transfers": ["basic", "multipart"] if operation == "upload" else ["basic"],
            "objects": [{"oid": pointer.oid, "size": pointer.size} for pointer in pointers],
            "hash_algo": "sha256",
        }
    ).encode()


def verify_request(pointer: Pointer) -> bytes:
    """Return the body of the request that ends an upload."""
    return json.dumps({"oid": pointer.oid, "size": pointer.size}).encode()


def read_batch(data: bytes, operation: Operation, wanted: Iterable[Pointer], now: float) -> dict[str, Answer]:
    """Read the answer to a request.

    Args:
        data: The body of the answer.
        operation: The operation that was requested.
        wanted: The objects that were requested.
        now: The present time, in seconds since 1970.

    Returns:
        The answer for each object, by object id.

    Raises:
        ProtocolError: The answer breaks the protocol.
    """
    body = _json_object(data)
    transfer = body.get("transfer", "basic")
    if transfer not in ("basic", "multipart"):
        raise ProtocolError(f"the LFS server wants the transfer {str(transfer)[:40]!r}, which was not offered")
    listed = body.get("objects")
    if not isinstance(listed, list):
        raise ProtocolError("the answer of the LFS server lists no objects")
    pointers = {pointer.oid: pointer for pointer in wanted}
    answers: dict[str, Answer] = {}
    for item in listed:
        if isinstance(item, dict) and (pointer := pointers.get(str(item.get("oid")))) is not None:
            answers[pointer.oid] = _answer(item, pointer, operation, transfer, now)
    if missing := set(pointers) - set(answers):
        raise ProtocolError(f"the answer of the LFS server lacks object {min(missing)}")
    return answers


def read_authentication(data: bytes, default: str, now: float) -> Action:
    """Read what ``git-lfs-authenticate`` prints: the address of the LFS server, and the headers that identify the user.

    Args:
        data: The output.
        default: The address of the server if the output has none.
        now: The present time, in seconds since 1970.

    Raises:
        ProtocolError: It is not valid.
    """
    body = _json_object(data)
    return _action({**body, "href": body.get("href") or default}, "git-lfs-authenticate", now)


def error_message(data: bytes) -> str:
    """Return the message in the body of an error, on one line, or an empty text."""
    try:
        message = _json_object(data).get("message")
    except ProtocolError:
        return ""
    return " ".join(message.split())[:300] if isinstance(message, str) else ""


def _json_object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_ANSWER:
        raise ProtocolError(f"the answer of the LFS server exceeds the limit of {MAX_ANSWER} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the answer of the LFS server is not JSON") from error
    if not isinstance(body, dict):
        raise ProtocolError("the answer of the LFS server is not a JSON object")
    return body


def _answer(item: Mapping[str, Any], pointer: Pointer, operation: Operation, transfer: str, now: float) -> Answer:
    error = item.get("error")
    if error is not None:
        code = error.get("code") if isinstance(error, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        refusal = Refusal(
            code if isinstance(code, int) else 0, " ".join(str(message or "no reason given").split())[:300]
        )
        return Answer(pointer, transfer, error=refusal)
    actions = item.get("actions") or {}
    if not isinstance(actions, dict):
        raise ProtocolError(f"object {pointer.oid}: its actions are not a JSON object")
    if operation not in actions:
        if operation == "download":
            raise ProtocolError(f"object {pointer.oid}: the LFS server gives neither a download nor an error")
        return Answer(pointer, transfer)
    where = f"object {pointer.oid}"
    verify = _action(actions["verify"], where, now) if actions.get("verify") else None
    return Answer(pointer, transfer, _action(actions[operation], where, now), verify)


def _action(action: object, where: str, now: float) -> Action:
    if not isinstance(action, dict):
        raise ProtocolError(f"{where}: an action is not a JSON object")
    href = check_address(action.get("href"), where)
    header = action.get("header") or {}
    if not isinstance(header, dict):
        raise ProtocolError(f"{where}: the headers of an action are not a JSON object")
    return Action(href, MappingProxyType(_headers(header, where)), _expiry(action, now))


def check_address(href: object, where: str) -> str:
    """Return the address of a request after checking it.

    Raises:
        ProtocolError: It is not an address of ``http`` or ``https``.
    """
    if isinstance(href, str) and len(href) <= _MAX_TEXT and re.fullmatch(r"[\x21-\x7e]+", href):
        try:
            parts = urlsplit(href)
            if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
                return href
        except ValueError:
            pass
    raise ProtocolError(f"{where}: the LFS server gives an address that is not a URL of http or https")


def _headers(header: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the headers of an action. Those that frame a request belong to the client and are left out."""
    checked = {}
    for name, value in header.items():
        text = str(value) if isinstance(value, (int, str)) else None
        if text is None or not _TOKEN.fullmatch(name) or len(text) > _MAX_TEXT or not _VALUE.fullmatch(text):
            raise ProtocolError(f"{where}: the LFS server gives a header that is not valid")
        if name.lower() not in _FRAMING:
            checked[name] = text
    return checked


def _expiry(action: Mapping[str, Any], now: float) -> float | None:
    """Return when an action expires; ``expires_in`` counts before ``expires_at``, as clocks differ."""
    seconds = action.get("expires_in")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < _MOST_SECONDS:
        return now + seconds
    text = action.get("expires_at")
    if isinstance(text, str) and not seconds:
        try:
            at = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text.replace("Z", "+00:00")))
        except ValueError:
            return None
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp() if at.year > 1 else None
    return None
