"""Git's quotes around paths and patterns, as in C."""

from __future__ import annotations

import re
from shlex import quote

_ESCAPE = re.compile(r"\\([0-3][0-7]{2}|.)", re.DOTALL)
_TO_ESCAPE = re.compile(r'[\x00-\x1f\x7f"\\]')
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}
_NAMES = {character: letter for letter, character in _LETTERS.items()}


def quoted(text: str) -> str:
    """Return a text in git's quotes."""
    return '"' + _TO_ESCAPE.sub(lambda match: "\\" + (_NAMES.get(match[0]) or f"{ord(match[0]):03o}"), text) + '"'


def shown_path(path: str) -> str:
    """Return a path for people, as git shows it, except that letters of any script stand for themselves.

    A path is in git's quotes if it has quotes, backslashes, bytes that are not UTF-8 or characters that cannot be seen.
    The last two are octal bytes. A path with a space at an end, which git prints as it is, is quoted, too.
    """
    if path.isprintable() and path == path.strip() and path and not ('"' in path or "\\" in path):
        return path
    return '"' + "".join(map(_shown, path)) + '"'


def shell_word(text: str) -> str:
    """Return a text as a word of a command that people copy.

    One that cannot be printed is in the quotes with a dollar sign (POSIX.1-2024), with its bytes in octal.
    """
    if text.isprintable():
        return quote(text)
    return "$'" + "".join(map(_shown, text)).replace("'", r"\'") + "'"


def _shown(character: str) -> str:
    if character in _NAMES:
        return "\\" + _NAMES[character]
    if character.isprintable():
        return character
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))


def unquote(body: str) -> str:
    """Return the text between git's quotes, in which special characters are escaped as in C."""

    def byte(match: re.Match[str]) -> bytes:
        return bytes([int(match[1], 8)]) if match[1][0] in "0123" else _LETTERS[match[1]].encode()

    raw = body.encode("utf-8", "surrogateescape").decode("latin-1")
    plain = _ESCAPE.sub(lambda match: byte(match).decode("latin-1"), raw)
    return plain.encode("latin-1").decode("utf-8", "surrogateescape")
