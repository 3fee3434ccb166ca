"""Limits on changes, such as ``rel_change > 0.05 or nan > 0``: a small language for checks in CI.

A limit is a condition that no change may fulfil. It has comparisons of a number of the change with a constant, the
names of kinds of changes, ``and``, ``or``, ``not`` and parentheses. Nothing is evaluated by Python. A number that does
not exist, such as the rank of a vector, fulfils no comparison. NaN fulfils each.
"""

from __future__ import annotations

import math
import operator
import re
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import Kind
from git_theta_ext.errors import UsageError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.comparison.changes import ParameterChange
    from git_theta_ext.comparison.distance import Distance

    Condition = Callable[[ParameterChange], bool]

NUMBERS: dict[str, Callable[[Distance], float | None]] = {
    "rel_change": lambda near: near.relative,
    "cosine": lambda near: near.cosine,
    "largest": lambda near: near.largest,
    "share": lambda near: near.share,
    "changed": lambda near: near.changed,
    "flips": lambda near: near.flips,
    "rank": lambda near: None if near.rank is None else near.rank.value,
    "norm": lambda near: near.norm,
    "norm_old": lambda near: near.norm_old,
    "norm_new": lambda near: near.norm_new,
    "nan": lambda near: near.nan_new,
    "inf": lambda near: near.infinite_new,
}
"""The numbers of a change that a limit may name."""

KINDS: dict[str, Condition] = {
    **{kind.value: lambda change, kind=kind: change.kind is kind for kind in Kind},  # type: ignore[misc]
    "reshaped": lambda change: change.reshaped,
    "recast": lambda change: change.recast,
}
"""The kinds of changes that a limit may name."""

_COMPARE = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_TOKEN = re.compile(r"\s*(?:([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)|([A-Za-z_]+)|(<=|>=|==|!=|[<>()-]))")
_LONGEST = 1000
_DEEPEST = 20
_HINT = f"name one of {', '.join([*NUMBERS, *KINDS])}; for example 'rel_change > 0.05 or nan > 0'"


@dataclass(frozen=True)
class Limit:
    """A condition that no change may fulfil.

    Attributes:
        text: As the user wrote it.
        exceeded_by: Returns whether a change fulfils it.
        measured: Whether it depends on the values of parameters.
    """

    text: str
    exceeded_by: Condition
    measured: bool


def parse_limit(text: str) -> Limit:
    """Read a limit.

    Raises:
        UsageError: It is not valid.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"a limit of {len(text)} characters exceeds the limit of {_LONGEST}", hint=_HINT)
    parser = _Parser(text)
    condition = parser.any_of()
    if parser.word:
        raise parser.error("'and', 'or' or the end")
    return Limit(text, condition, parser.measured)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self.word = ""
        self.measured = False
        self._next()

    def any_of(self) -> Condition:
        conditions = [self._all_of()]
        while self.word == "or":
            self._next()
            conditions.append(self._all_of())
        return conditions[0] if len(conditions) == 1 else lambda change: any(each(change) for each in conditions)

    def error(self, expected: str) -> UsageError:
        found = repr(self.word) if self.word else "the end"
        return UsageError(f"limit {self._text!r}: expected {expected}, not {found}", hint=_HINT)

    def _all_of(self) -> Condition:
        conditions = [self._one()]
        while self.word == "and":
            self._next()
            conditions.append(self._one())
        return conditions[0] if len(conditions) == 1 else lambda change: all(each(change) for each in conditions)

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UsageError(f"limit {self._text!r}: more than {_DEEPEST} parentheses or 'not'", hint=_HINT)
        first = self._next()
        if first == "not":
            inner = self._one()
            condition: Condition = lambda change: not inner(change)  # noqa: E731 - one of four alternatives
        elif first == "(":
            condition = self.any_of()
            if self._next() != ")":
                raise UsageError(f"limit {self._text!r}: a closing parenthesis is missing", hint=_HINT)
        elif first in KINDS:
            condition = KINDS[first]
        elif first in NUMBERS:
            condition = self._comparison(NUMBERS[first])
        else:
            raise UsageError(f"limit {self._text!r}: unknown name {first!r}", hint=_HINT)
        self._depth -= 1
        return condition

    def _comparison(self, number: Callable[[Distance], float | None]) -> Condition:
        if self.word not in _COMPARE:
            raise self.error("a comparison such as >")
        compare = _COMPARE[self._next()]
        sign = 1.0
        if self.word == "-":
            self._next()
            sign = -1.0
        if not self.word or self.word[0] not in "0123456789.":
            raise self.error("a number")
        bound = sign * float(self._next())
        self.measured = True

        def exceeded(change: ParameterChange) -> bool:
            value = None if change.distance is None else number(change.distance)
            return value is not None and (math.isnan(value) or bool(compare(value, bound)))

        return exceeded

    def _next(self) -> str:
        """Return the current word, and go on to the next one."""
        current = self.word
        rest = self._text[self._at :]
        match = _TOKEN.match(rest)
        if match is None and rest.strip():
            raise UsageError(f"limit {self._text!r}: unexpected {rest.strip()[0]!r}", hint=_HINT)
        self.word = "" if match is None else match[match.lastindex or 0]
        self._at = len(self._text) if match is None else self._at + match.end()
        return current
