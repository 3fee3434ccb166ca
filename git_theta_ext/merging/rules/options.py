"""Check the values of options and weights of merge methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.interfaces import MergeContract, Option

_LARGEST_WEIGHT = 1e6
_SMALLEST_WEIGHT = 1e-20
"""Smaller weights make subnormal numbers of float32 changes; elections of signs divide by no less than 1e-30."""
_MOST_VALUES = 1000
"""The most values of an option that changes with the depth."""


def values_by_depth(written: object, option: Option) -> list[object]:
    """Return the values of an option that changes with the depth; empty if it does not."""
    if isinstance(written, str) and "," in written and not option.choices:
        written = written.split(",")
    if not isinstance(written, list | tuple) or option.choices or option.whole:
        return []
    return list(written[:_MOST_VALUES])


def number_or_word(what: str, option: Option, written: object) -> float | str:
    """Return the value of an option.

    Args:
        what: The option, for messages.
        option: What it may be.
        written: What was written.

    Raises:
        MergeError: The option does not take such a value.
    """
    if option.choices:
        if written not in option.choices:
            raise MergeError(f"{what} is {written!r}", hint=f"use one of {', '.join(option.choices)}")
        return str(written)
    kind = "an integer" if option.whole else "a number"
    hint = f"use {kind} from {option.least:g} to {option.most:g}"
    try:
        value = math.nan if isinstance(written, bool) else float(written)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError) as error:
        raise MergeError(f"{what} is {written!r}", hint=hint) from error
    if not option.least <= value <= option.most or (option.whole and not value.is_integer()):
        raise MergeError(f"{what} is {written!r}", hint=hint)
    return value


def checked_weights(
    place: str, method: str, weights: Iterable[object], contract: MergeContract
) -> tuple[tuple[float, ...], ...]:
    """Return the weight of each side: one number, or several from the first layer to the last one.

    Args:
        place: Where they come from, for messages.
        method: The method.
        weights: What was written.
        contract: The method's contract.

    Raises:
        MergeError: The method does not take such weights.
    """
    try:
        numbers = tuple(
            tuple(map(float, weight[:_MOST_VALUES] if isinstance(weight, list | tuple) else [weight]))
            for weight in weights
        )
    except (ValueError, TypeError) as error:
        raise MergeError(f"{place}weights must be numbers, one for each side", hint="weights: [0.7, 0.3]") from error
    if numbers and not contract.weighted:
        raise MergeError(f"{place}method {method!r} takes no weights")
    least = -_LARGEST_WEIGHT if contract.negative_weights else 0.0
    every = [number for values in numbers for number in values]
    allowed = all(least <= number <= _LARGEST_WEIGHT and not 0 < abs(number) < _SMALLEST_WEIGHT for number in every)
    if not allowed or (numbers and not any(every)):
        raise MergeError(
            f"{place}weights {[list(values) if len(values) > 1 else values[0] for values in numbers]} are not allowed",
            hint=f"use numbers from {least:g} to {_LARGEST_WEIGHT:g} that are not all 0, and not below "
            f"{_SMALLEST_WEIGHT:g} otherwise",
        )
    if not all(numbers):
        raise MergeError(f"{place}a weight is an empty list", hint="weights: [0.7, 0.3]")
    return numbers
