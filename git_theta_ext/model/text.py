"""Names and paths as text: quoted in manifests, and safe to print."""

from __future__ import annotations

import json
import re
from functools import lru_cache

_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONG = 1 << 10  # characters
# Those that move the cursor or begin a sequence, and those that reorder what stands beside them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT = 0x100


def printable(text: str) -> str:
    """Return a text in which no character controls a terminal: each is escaped, but for line feeds and tabs."""
    return _CONTROL.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < _SHORT else f"\\u{code:04x}"


def quoted(text: str) -> str:
    """Return a text in canonical JSON quotes."""
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def unquoted(written: str) -> str | None:
    """Return the text that a name in canonical JSON quotes stands for; None where it is none."""
    return _remembered(written) if len(written) <= _LONG else _unquoted(written)


def _unquoted(written: str) -> str | None:
    try:
        text = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return text if isinstance(text, str) and quoted(text) == written else None


# A history's manifests name the same parameters over and over: remembering them halves time and memory.
_remembered = lru_cache(1 << 16)(_unquoted)
