"""Names and paths as text: quoted in manifests, and safe to print."""

from __future__ import annotations

import json
import re
from functools import cache
from sys import intern
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Patterns are compiled when a text needs them, which is rare: compiling all of them takes a millisecond.
_ESCAPED = "[\x7f-\x9f\u2028\u2029\ud800-\udfff]"
_SPECIAL = '["\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]'
"""What JSON or the canonical form escapes."""
# Characters that move the cursor or begin a sequence, also as single bytes, and those that reorder their neighbours.
_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
# A password may contain any character, also an at sign, and a slash that should have been escaped.
_USER = r"(?<=://)(?:[^\s/?#]*@|[^\s/?#@:]*:(?!\d{0,5}(?:[/?#\s'\"]|$))\S*@)"
_QUERY_VALUE = (
    r"(?i)([?&][\w.-]*(?:key|token|secret|password|passwd|pwd|credential|sig|signature|auth|access)[\w.-]*=)"
    r"[^&#\s'\"]+"
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def printable(text: str) -> str:
    """Return a text for people: characters that control a terminal are escaped, and URLs have no credentials.

    Line feeds and tabs are kept.
    """
    safe = redacted(text)
    return safe if _is_plain(safe) else _compiled(_CONTROL).sub(_escape, safe)


def printable_line(text: str) -> str:
    """Return ``printable`` text on one line, so that a name with a line feed cannot forge a line of output."""
    return printable(text).replace("\n", "\\n")


def indented(text: str) -> str:
    """Return ``printable`` text whose further lines are indented, so that a name cannot forge a message."""
    return printable(text).replace("\n", "\n  ")


def redacted(text: str) -> str:
    """Return a text whose URLs have no user, password or tokens."""
    return _compiled(_QUERY_VALUE).sub(r"\1***", _compiled(_USER).sub("", text)) if "://" in text else text


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
    if not _is_special(text):
        return f'"{text}"'
    return _compiled(_ESCAPED).sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def all_quoted(texts: Sequence[str]) -> list[str]:
    """Return texts in canonical JSON quotes."""
    return list(map(quoted, texts)) if _is_special("".join(texts)) else [f'"{text}"' for text in texts]


def _is_special(text: str) -> bool:
    """Return whether JSON or the canonical form escapes a character of a text."""
    if _is_plain(text):
        return '"' in text or "\\" in text
    return _compiled(_SPECIAL).search(text) is not None


def _is_plain(text: str) -> bool:
    """Return whether a text has only what ASCII prints."""
    return text.isascii() and text.isprintable()


def shared(text: str) -> str:
    """Return the copy of a text that all manifests share.

    A history's manifests have the same names and digests over and over: keeping one of each halves the memory.
    """
    return intern(text)


def all_shared(texts: Iterable[str]) -> list[str]:
    """Return the copies of texts that all manifests share; see ``shared``."""
    return list(map(intern, texts))


def unquoted(written: str) -> str | None:
    """Return the text of a name in canonical JSON quotes; None if it is not in that form."""
    inner = written[1:-1]
    if not _is_special(inner):
        return shared(inner) if written == f'"{inner}"' else None
    try:
        text = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return text if isinstance(text, str) and quoted(text) == written else None
