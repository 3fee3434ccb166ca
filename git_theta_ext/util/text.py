"""Names and paths as text: quoted in manifests, and safe to print."""

from __future__ import annotations

import json
import re
from sys import intern
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SPECIAL = re.compile('["\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
"""What JSON or the canonical form escapes."""
# Characters that move the cursor or begin a sequence, also as single bytes, and those that reorder their neighbours.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# A password may contain any character, also an at sign, and a slash that should have been escaped.
_USER = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/?#@:]*:(?!\d{0,5}(?:[/?#\s'\"]|$))\S*@)")
_TOKEN = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|password|passwd|pwd|credential|sig|signature|auth|access)[\w.-]*=)[^&#\s'\"]+",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """Return a text for people: characters that control a terminal are escaped, and URLs have no credentials.

    Line feeds and tabs are kept.
    """
    return _CONTROL.sub(_escape, redacted(text))


def printable_line(text: str) -> str:
    """Return ``printable`` text on one line, so that a name with a line feed cannot forge a line of output."""
    return printable(text).replace("\n", "\\n")


def indented(text: str) -> str:
    """Return ``printable`` text whose further lines are indented, so that a name cannot forge a message."""
    return printable(text).replace("\n", "\n  ")


def redacted(text: str) -> str:
    """Return a text whose URLs have no user, password or tokens."""
    return _TOKEN.sub(r"\1***", _USER.sub("", text)) if "://" in text else text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDC9F:  # noqa: PLR2004 - as Python holds a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - of one byte


def shortlist(names: Iterable[str], most: int = 5) -> str:
    """Return names separated by commas; of those beyond the first ``most`` only how many there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def similar(word: str, words: Iterable[str]) -> str | None:
    """Return the word that is most similar to a mistyped one; None if none is."""
    import difflib  # most commands contain no mistake

    return next(iter(difflib.get_close_matches(word, list(words), 1)), None)


def quoted(text: str) -> str:
    """Return a text in canonical JSON quotes."""
    if _SPECIAL.search(text) is None:
        return f'"{text}"'
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def shared(name: str) -> str:
    """Return the copy of a name that all manifests share.

    A history's manifests name the same parameters over and over: keeping one of each halves the memory.
    """
    return intern(name)


def unquoted(written: str) -> str | None:
    """Return the text of a name in canonical JSON quotes; None if it is not in that form."""
    inner = written[1:-1]
    if _SPECIAL.search(inner) is None:
        return shared(inner) if written == f'"{inner}"' else None
    try:
        text = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return text if isinstance(text, str) and quoted(text) == written else None
