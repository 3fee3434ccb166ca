"""Match names of modules with the expressions of ``rank_pattern`` and ``alpha_pattern``, as PEFT does.

PEFT takes the first key of a mapping that matches the whole name, or the rest of it behind a dot. Most keys are names,
or ends of names, and are looked up. The others are regular expressions of files that are not trusted, so they are not
given to ``re``, whose time can grow exponentially. Only sequences of characters with ``?``, ``*`` and ``+``, and
alternatives of them, are supported; they are matched in time proportional to the lengths of the name and of the
expression.
"""

from __future__ import annotations

import re
import string
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME = re.compile(r"\^?(?P<name>[A-Za-z0-9_\-]+(?:\\?\.[A-Za-z0-9_\-]+)*)\$?")
_MOST_EXPRESSIONS = 256
_LONGEST = 200
_MOST_ALTERNATIVES = 64
_WORD = frozenset(string.ascii_letters + string.digits + "_")
_CLASSES = {"d": frozenset(string.digits), "w": _WORD}
_LITERALS = frozenset("_-/:,@ ") | _WORD
_ESCAPED = frozenset(".-_/")


@dataclass(frozen=True)
class ModulePatterns:
    """The keys of a mapping from expressions to values, for looking up many names.

    Attributes:
        values: Expression to value, in the order of the file.
    """

    values: Mapping[str, object]

    def find(self, module: str) -> str | None:
        """Return the first expression that matches a module, or None.

        Args:
            module: The name of the module in the model without the adapter.

        Raises:
            MergeError: An expression that may match is not supported.
        """
        places = self._names
        found = [places["^" + module]] if "^" + module in places else []
        start = 0
        while start >= 0:
            if (place := places.get(module[start:])) is not None:
                found.append(place)
            start = module.find(".", start) + 1 or -1
        first = min(found, default=None)
        for place, expression in self._expressions:
            if first is not None and place > first:
                break
            if _matches(expression, module):
                return expression
        return None if first is None else self._keys[first]

    @cached_property
    def _keys(self) -> list[str]:
        return list(self.values)

    @cached_property
    def _names(self) -> dict[str, int]:
        """Names, with ``^`` if they must be whole names, to their places."""
        names: dict[str, int] = {}
        for place, key in enumerate(self._keys):
            if match := _NAME.fullmatch(key):
                name = match["name"].replace("\\.", ".")
                names.setdefault(f"^{name}" if key.startswith("^") else name, place)
        return names

    @cached_property
    def _expressions(self) -> list[tuple[int, str]]:
        others = [(place, key) for place, key in enumerate(self._keys) if not _NAME.fullmatch(key)]
        if len(others) > _MOST_EXPRESSIONS:
            raise MergeError(f"more than {_MOST_EXPRESSIONS} expressions are not supported")
        return others


@dataclass(frozen=True)
class _Token:
    """Some characters, None for any, and whether there may be none or several of them."""

    characters: frozenset[str] | None
    optional: bool = False
    repeated: bool = False


def _matches(expression: str, module: str) -> bool:
    return any(_matches_sequence(tokens, module, whole=whole) for whole, tokens in _parsed(expression))


def _matches_sequence(tokens: tuple[_Token, ...], module: str, *, whole: bool) -> bool:
    """Return whether the end of a name matches, from its beginning or from behind a dot."""
    reached = _skipped(tokens, {0})
    for position, character in enumerate(module):
        if position and not whole and module[position - 1] == ".":
            reached = _skipped(tokens, reached | {0})
        following: set[int] = set()
        for at in reached:
            if at < len(tokens) and (tokens[at].characters is None or character in (tokens[at].characters or ())):
                following.add(at + 1)
                if tokens[at].repeated:
                    following.add(at)
        reached = _skipped(tokens, following)
    return len(tokens) in reached


def _skipped(tokens: tuple[_Token, ...], reached: set[int]) -> set[int]:
    """Add the places behind tokens that may be left out."""
    every = set(reached)
    for at, token in enumerate(tokens):
        if at in every and token.optional:
            every.add(at + 1)
    return every


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> tuple[tuple[bool, tuple[_Token, ...]], ...]:
    """Return the alternatives of an expression, and whether each begins with ``^``."""
    unsupported = MergeError(f"the expression {expression!r:.60} is not supported")
    if len(expression) > _LONGEST:
        raise unsupported
    try:
        alternatives, end = _alternatives(expression, 0)
    except ValueError:
        raise unsupported from None
    if end < len(expression):
        raise unsupported
    return tuple(_anchored(alternatives, unsupported))


def _anchored(
    alternatives: list[tuple[object, ...]], unsupported: MergeError
) -> Iterator[tuple[bool, tuple[_Token, ...]]]:
    for alternative in alternatives:
        whole = alternative[:1] == ("^",)
        tokens = alternative[whole:]
        tokens = tokens[:-1] if tokens[-1:] == ("$",) else tokens
        checked = tuple(token for token in tokens if isinstance(token, _Token))
        if len(checked) < len(tokens):
            raise unsupported
        yield whole, checked


def _alternatives(text: str, at: int) -> tuple[list[tuple[object, ...]], int]:
    """Parse alternatives up to the end or a closing parenthesis; return them and where they end."""
    done: list[tuple[object, ...]] = []
    sequences: list[tuple[object, ...]] = [()]
    while at < len(text) and text[at] != ")":
        if text[at] == "|":
            done, sequences, at = done + sequences, [()], at + 1
            continue
        parts, at = _part(text, at)
        sequences = [(*sequence, *part) for sequence in sequences for part in parts]
        if len(done) + len(sequences) > _MOST_ALTERNATIVES:
            raise ValueError
    return done + sequences, at


def _part(text: str, at: int) -> tuple[list[tuple[object, ...]], int]:
    """Parse a group, an anchor or a character with what follows it."""
    if text[at] in "^$":
        return [(text[at],)], at + 1
    if text[at] == "(":
        parts, at = _alternatives(text, at + (3 if text.startswith("(?:", at) else 1))
        if at >= len(text):
            raise ValueError
        at += 1
        if text[at : at + 1] in {"*", "+", "{"}:
            raise ValueError
        return ([*parts, ()], at + 1) if text[at : at + 1] == "?" else (parts, at)
    characters, at = _characters(text, at)
    sign = text[at : at + 1]
    if sign == "{":
        raise ValueError
    if sign not in {"?", "*", "+"}:
        return [(_Token(characters),)], at
    at += 1
    at += text[at : at + 1] == "?"  # a lazy quantifier matches the same names
    return [(_Token(characters, optional=sign in "?*", repeated=sign in "*+"),)], at


def _characters(text: str, at: int) -> tuple[frozenset[str] | None, int]:
    """Parse what stands for one character."""
    one, following = text[at], text[at + 1 : at + 2]
    if one == ".":
        return None, at + 1
    if one == "\\":
        if following in _ESCAPED and following:
            return frozenset(following), at + 2
        if following in _CLASSES:
            return _CLASSES[following], at + 2
    elif one == "[":
        end = text.index("]", at)
        return _class(text[at + 1 : end]), end + 1
    elif one in _LITERALS:
        return frozenset(one), at + 1
    raise ValueError


def _class(content: str) -> frozenset[str]:
    """Return the characters of a class such as ``0-9a``."""
    characters: set[str] = set()
    while content:
        if content[1:2] == "-" and len(content) > 2:  # noqa: PLR2004 - a range
            if not {content[0], content[2]} <= _WORD:
                raise ValueError
            characters |= {chr(code) for code in range(ord(content[0]), ord(content[2]) + 1)}
            content = content[3:]
        elif content[0] in _LITERALS:
            characters.add(content[0])
            content = content[1:]
        else:
            raise ValueError
    if not characters:
        raise ValueError
    return frozenset(characters)
