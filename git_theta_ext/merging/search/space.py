"""What a search tries: methods with values or ranges of their options, and weights of the sides."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_DIGITS = 4
"""Significant digits of a value from a range: more would not change a score, and make the words of a merge long."""


@dataclass(frozen=True)
class Candidate:
    """A merge to evaluate.

    Attributes:
        branches: The branches that are merged into the current one; none for the current branch as it is.
        words: Method, options and weights, as ``git merge -s theta -X`` takes them.
    """

    branches: tuple[str, ...]
    words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The words, for people."""
        return " ".join(self.words).removeprefix("method=") if self.branches else "nothing merged"


@dataclass(frozen=True)
class Listed:
    """The values to try, at least one."""

    values: tuple[float | str, ...]


@dataclass(frozen=True)
class Range:
    """A range of numbers.

    Attributes:
        least: The smallest number.
        most: The largest number.
        steps: How many numbers a grid has, from the smallest to the largest; 0 if none is said.
        log: Whether factors between numbers count, instead of differences.
        whole: Whether the numbers are integers.
    """

    least: float
    most: float
    steps: int = 0
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> float:
        """Return the number at a share of the range between 0 and 1, rounded to few digits."""
        share = min(max(share, 0.0), 1.0)
        if self.log:
            value = math.exp(math.log(self.least) + share * (math.log(self.most) - math.log(self.least)))
        else:
            value = self.least + share * (self.most - self.least)
        rounded = float(round(value)) if self.whole else float(f"{value:.{_DIGITS}g}")
        return min(max(rounded, self.least), self.most)

    def grid(self) -> tuple[float, ...]:
        """Return the numbers of a grid, each once."""
        return tuple(dict.fromkeys(self.at(number / (self.steps - 1)) for number in range(self.steps)))


Dimension = Listed | Range


@dataclass(frozen=True)
class Entry:
    """A method, with what is tried of its options.

    Attributes:
        method: The method.
        options: Values or a range for each option that is not at its default.
        weights: The weight of each side, ours first; or one range for the weight of every side; or nothing.
    """

    method: str
    options: Mapping[str, Dimension] = field(default_factory=dict)
    weights: tuple[Dimension, ...] | Range | None = None

    def problems(self, sides: Sides) -> Iterator[Problem]:
        """Yield what is tried, one for each combination of listed values.

        Raises:
            MergeError: There are weights for another number of sides.
        """
        weights = self._weights(sides)
        if weights and len(weights) != sides.count:
            raise MergeError(
                f"the search has {len(weights)} weights for {self.method}, but {sides.count} sides are merged",
                hint="give one weight for each side, ours first",
            )
        names = [*self.options, *(f"weight {number}" for number in range(len(weights)))]
        dimensions = [*self.options.values(), *weights]
        listed = [d.values if isinstance(d, Listed) else (d,) for d in dimensions]
        for values in itertools.product(*listed):
            yield Problem(self.method, dict(zip(names, values, strict=True)), len(self.options))

    def _weights(self, sides: Sides) -> Sequence[Dimension]:
        if isinstance(self.weights, Range):
            own: Dimension = self.weights if sides.own else Listed((1.0,))
            return [own, *[self.weights] * (sides.count - 1)]
        return self.weights or ()


@dataclass(frozen=True)
class Sides:
    """The sides of a merge.

    Attributes:
        count: How many there are: the current branch, and those that are merged into it.
        own: Whether the current branch has changes of its own, so that its weight matters.
    """

    count: int
    own: bool = True


@dataclass(frozen=True)
class Problem:
    """A method whose options have values, or ranges from which they are chosen.

    Attributes:
        method: The method.
        values: A number, a word or a range for each option, and then for each weight.
        options: The number of options.
    """

    method: str
    values: Mapping[str, float | str | Range]
    options: int

    @property
    def ranges(self) -> list[Range]:
        """The ranges, in order."""
        return [value for value in self.values.values() if isinstance(value, Range)]

    def candidate(self, branches: Sequence[str], shares: Sequence[float]) -> Candidate | None:
        """Return a merge, with a share between 0 and 1 of each range; None if all its weights would be 0."""
        remaining = iter(shares)
        chosen = {
            name: value.at(next(remaining)) if isinstance(value, Range) else value
            for name, value in self.values.items()
        }
        texts = [_written(value) for value in chosen.values()]
        options = [f"{name}={text}" for name, text in zip(chosen, texts[: self.options], strict=False)]
        weights = texts[self.options :]
        if weights and not any(map(float, weights)):
            return None
        return Candidate(
            tuple(branches),
            (f"method={self.method}", *options, *([f"weights={','.join(weights)}"] if weights else [])),
        )


@dataclass(frozen=True)
class Space:
    """What a search tries, and how.

    Attributes:
        entries: The methods.
        how: ``grid``, ``random`` or ``evolution``.
        trials: How many candidates ``random`` and ``evolution`` may evaluate.
        seed: Of the random numbers.
        greedy: Whether the branches are chosen, one after the other, by the first entry.
    """

    entries: tuple[Entry, ...]
    how: str = "grid"
    trials: int = 0
    seed: int = 0
    greedy: bool = False


def _written(value: float | str) -> str:
    return f"{value:.15g}" if isinstance(value, (int, float)) else value
