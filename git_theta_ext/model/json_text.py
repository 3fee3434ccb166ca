"""Write JSON in the style of an existing text."""

from __future__ import annotations

import json
import re
from typing import Any

_INDENT = re.compile(r"\s*\{\s*?\n([ \t]+)")


def written_like(text: str, content: Any) -> str:
    """Return a value as JSON with the indentation, the separators and the end of another text."""
    indent = _INDENT.match(text)
    compact = (",", ":") if '":"' in text and not indent else None
    written = json.dumps(content, indent=indent and indent[1], separators=compact, ensure_ascii=text.isascii())
    return written + text[len(text.rstrip()) :]
