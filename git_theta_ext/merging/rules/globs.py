"""Patterns over the names of parameters, as merge rules have them.

``*`` and ``?`` stay within one of the parts between dots, ``**`` crosses them, ``[…]`` is a class of characters, and
all else is itself: ``model.layers.*.mlp.**`` is everything inside every layer's mlp, ``**.bias`` every bias.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_MOST_STARS = 3
_MOST_CHARACTERS = 1000


def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; use ``fullmatch``, which takes time in proportion to the name's length.

    ``**.`` at the beginning and ``.**.`` also stand for no part at all.

    Raises:
        ValueError: The pattern is too long, has too many stars between two dots, or a class that makes no sense.
    """
    if len(pattern) > _MOST_CHARACTERS:
        raise ValueError(f"a pattern of {len(pattern)} characters; {_MOST_CHARACTERS} are the most")
    chunks = re.split(r"\*\*+", pattern)
    if any(part.count("*") > _MOST_STARS for chunk in chunks for part in chunk.split(".")):
        raise ValueError(f"more than {_MOST_STARS} stars between two dots")
    text = _translated(chunks[0])
    for number, chunk in enumerate(chunks[1:], 1):
        whole_parts = (not text or text.endswith(r"\.")) and chunk.startswith(".")
        gap, rest = (r"(?:.*?\.)??", chunk[1:]) if whole_parts else (".*?", chunk)
        piece = gap + _translated(rest)
        # What comes first is matched as early as can be and never again: what follows can start anywhere behind it.
        last = number == len(chunks) - 1
        text += piece if last else f"(?=(?P<g{number}>{piece}))(?P=g{number})"
    return re.compile(text, re.DOTALL)


def _translated(chunk: str) -> str:
    found = []
    for symbol in _TOKEN.findall(chunk):
        if symbol == "*":
            found.append(r"[^.]*?")
        elif symbol == "?":
            found.append(r"[^.]")
        elif len(symbol) > 1:
            found.append(_class(symbol))
        else:
            found.append(re.escape(symbol))
    return "".join(found)


def _class(symbol: str) -> str:
    """Translate a class as the shell has it: ``!`` negates, and a bracket that comes first is one of the characters."""
    negated = symbol.startswith("[!")
    inside = symbol[2 if negated else 1 : -1]
    if not inside:
        raise ValueError(f"an empty class of characters, {symbol}")
    # Character by character: doubled hyphens and others mean, or may one day mean, something else to Python.
    ranges = re.findall(r"(?s)(.)(?:-(.))?", inside)
    escaped = "".join(re.escape(low) + (f"-{re.escape(high)}" if high else "") for low, high in ranges)
    try:
        return re.compile(f"[{'^' if negated else ''}{escaped}]").pattern
    except re.error as error:
        raise ValueError(f"the class {symbol} makes no sense: {error}") from error
