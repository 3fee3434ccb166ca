"""Patterns for the names of parameters in merge rules.

``*`` and ``?`` match within one part between dots, ``**`` also matches dots, ``[…]`` is a character class,
``{8..11}`` is one of these numbers, and all other characters match themselves. For example, ``model.layers.*.mlp.**``
matches everything inside the mlp of every layer, and ``**.bias`` every bias. A tensor that a checkpoint has in pieces
is matched by its name: ``**.bias`` matches ``a.bias[0:3]``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.model.tensor_pieces import PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TOKEN = re.compile(r"\*|\?|\[!?\]?[^\]]*\]|\{[0-9]+\.\.[0-9]+\}|.", re.DOTALL)
_MOST_STARS = 3
_MOST_CHARACTERS = 1000
_MOST_NUMBERS = 10_000


def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; use its ``fullmatch``, which takes time proportional to the length of the name.

    ``**.`` at the beginning and ``.**.`` also match if there is no part between.

    Raises:
        ValueError: The pattern is too long, has too many stars between two dots, or has an invalid character class.
    """
    if len(pattern) > _MOST_CHARACTERS:
        raise ValueError(f"a pattern of {len(pattern)} characters exceeds the limit of {_MOST_CHARACTERS}")
    chunks = re.split(r"\*\*+", pattern)
    if any(part.count("*") > _MOST_STARS for chunk in chunks for part in chunk.split(".")):
        raise ValueError(f"more than {_MOST_STARS} stars between two dots")
    text = _translated(chunks[0])
    for number, chunk in enumerate(chunks[1:], 1):
        whole_parts = (not text or text.endswith(r"\.")) and chunk.startswith(".")
        gap, rest = (r"(?:.*?\.)??", chunk[1:]) if whole_parts else (".*?", chunk)
        piece = gap + _translated(rest)
        # The first match is the only one that is tried: what follows can start anywhere behind it.
        last = number == len(chunks) - 1
        text += piece if last else f"(?=(?P<g{number}>{piece}))(?P=g{number})"
    return re.compile(f"{text}(?:{PIECE})?", re.DOTALL)


def _translated(chunk: str) -> str:
    parts = []
    for symbol in _TOKEN.findall(chunk):
        if symbol == "*":
            parts.append(r"[^.]*?")
        elif symbol == "?":
            parts.append(r"[^.]")
        elif len(symbol) > 1:
            parts.append(_numbers(symbol) if symbol.startswith("{") else _class(symbol))
        else:
            parts.append(re.escape(symbol))
    return "".join(parts)


def _numbers(symbol: str) -> str:
    """Translate a range of numbers, such as ``{8..11}``, both ends included."""
    first, last = map(int, symbol[1:-1].split(".."))
    if not first <= last < _MOST_NUMBERS:
        raise ValueError(f"the numbers {symbol} are not in ascending order, or exceed {_MOST_NUMBERS - 1}")
    return f"(?:{'|'.join(map(str, range(first, last + 1)))})"


def _class(symbol: str) -> str:
    """Translate a character class of the shell: ``!`` negates, and a bracket that comes first is a character."""
    negated = symbol.startswith("[!")
    inside = symbol[2 if negated else 1 : -1]
    if not inside:
        raise ValueError(f"the character class {symbol} is empty")
    # One by one, because doubled hyphens and other sequences may have another meaning in Python.
    ranges = re.findall(r"(?s)(.)(?:-(.))?", inside)
    escaped = "".join(re.escape(low) + (f"-{re.escape(high)}" if high else "") for low, high in ranges)
    try:
        return re.compile(f"[{'^' if negated else ''}{escaped}]").pattern
    except re.error as error:
        raise ValueError(f"the character class {symbol} is not valid: {error}") from error


def chooser(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    """Return whether a name matches one of some patterns; None, which chooses all names, if there are no patterns.

    Raises:
        ValueError: A pattern is not valid.
    """
    compiled = [matcher(pattern) for pattern in patterns]
    return (lambda name: any(pattern.fullmatch(name) for pattern in compiled)) if compiled else None
