"""Which method merges which parameter: choices, and where they come from."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.rules.globs import matcher
from git_theta_ext.model.manifest import MOST_SIDES, side_names
from git_theta_ext.registry import find_merge, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.interfaces import Option

FIXED_METHODS = ("ours", "theirs", "base", "conflict")
"""The methods that need no arithmetic and no plug-in."""

APPLY = "apply"
"""The method that applies what theirs changed to ours: ours + (theirs - base), exactly. It takes no options."""

DEFAULT_METHOD = "average"
DEFAULT_ORIGIN = "default"
GROW = "grow"
_NO_OPTIONS: Mapping[str, float | str] = MappingProxyType({})


@dataclass(frozen=True)
class Choice:
    """What is asked for where several sides changed a parameter.

    Attributes:
        method: The name of a plug-in, ``apply``, ``ours``, ``theirs``, ``base`` or ``conflict``; with several other
            sides also the name of one, such as ``theirs2``.
        options: A value for each that the method takes.
        weights: One for each side of the merge; none where all count the same.
        grow: Whether rows that one side appended are appended to what the method makes of the others.
        origin: Where it comes from, for people.
        rule_index: Index of the rule, whose parameters share the scope ``rule``; 0 for the defaults.
        explicit: Whether somebody asked for it; False for the built-in default.
    """

    method: str
    options: Mapping[str, float | str] = field(default_factory=lambda: _NO_OPTIONS)
    weights: tuple[float, ...] = ()
    grow: bool = False
    origin: str = DEFAULT_ORIGIN
    rule_index: int = 0
    explicit: bool = False

    @property
    def words(self) -> str:
        """Method, options and weights, for people."""
        options = [f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in self.options.items()]
        weights = [f"weights={','.join(f'{weight:g}' for weight in self.weights)}"] if self.weights else []
        return " ".join([*([GROW] if self.grow else []), self.method, *options, *weights])


@dataclass(frozen=True)
class Rule:
    """A choice for the parameters whose names match a pattern."""

    match: str
    choice: Choice


@dataclass(frozen=True)
class Rules:
    """Choices for all parameters: the last rule that matches counts, the defaults where none does."""

    defaults: Choice
    rules: tuple[Rule, ...] = field(default=())

    def __post_init__(self) -> None:
        compiled = [(matcher(rule.match), rule.choice) for rule in self.rules]
        object.__setattr__(self, "_compiled", list(reversed(compiled)))

    @classmethod
    def only(
        cls, method: str = DEFAULT_METHOD, given: Mapping[str, object] = _NO_OPTIONS, origin: str | None = None
    ) -> Rules:
        """Return the same choice for every parameter.

        Raises:
            MergeError: There is no such option, or it does not take that value.
            PluginError: There is no such method.
        """
        return cls(choice(method, given, origin=origin))

    def choose(self, parameter: str) -> Choice:
        """Return the choice for a parameter."""
        compiled: list[tuple[Any, Choice]] = getattr(self, "_compiled")  # noqa: B009 - made in __post_init__
        return next((found for pattern, found in compiled if pattern.fullmatch(parameter)), self.defaults)

    def idle(self, parameters: Iterable[str]) -> list[Rule]:
        """Return the rules that match none of some parameters: most often their patterns are misspelled."""
        known = list(parameters)
        return [rule for rule in self.rules if not any(map(matcher(rule.match).fullmatch, known))]

    def to_dict(self) -> dict[str, Any]:
        """Return the rules, with all options filled in, as values for JSON; ``from_dict`` reads them."""
        rules = [{"match": rule.match, **_choice_dict(rule.choice)} for rule in self.rules]
        return _choice_dict(self.defaults) | ({"rules": rules} if rules else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rules:
        """Read what ``to_dict`` returned.

        Raises:
            ValueError, KeyError, TypeError: It is not that.
            MergeError: A method does not take what is asked of it.
            PluginError: A method is not installed.
        """
        rules = [
            Rule(str(each["match"]), _choice_from(each, rule_index))
            for rule_index, each in enumerate(data.get("rules", []), 1)
        ]
        return cls(_choice_from(data, 0), tuple(rules))


def _choice_dict(found: Choice) -> dict[str, object]:
    data: dict[str, object] = {"method": found.method}
    if found.options:
        data["with"] = dict(found.options)
    if found.weights:
        data["weights"] = list(found.weights)
    return data | ({"grow": True} if found.grow else {})


def _choice_from(data: Mapping[str, Any], rule_index: int) -> Choice:
    options = dict(data.get("with", {}))
    found = choice(data["method"], options, data.get("weights", ()), origin="record", rule_index=rule_index)
    return replace(found, grow=bool(data.get("grow", False)))


def choice(
    method: str,
    given: Mapping[str, object] = _NO_OPTIONS,
    weights: Iterable[float] = (),
    *,
    origin: str | None = None,
    rule_index: int = 0,
) -> Choice:
    """Check a method's options and fill in the others.

    Args:
        method: Its name; ``grow`` stands for another one, given as the option ``method``, on the rows of all sides.
        given: Options by name; numbers may be texts.
        weights: One for each side of the merge.
        origin: Where the choice comes from, for people; None for the built-in default.
        rule_index: Index of the rule; 0 for the defaults.

    Raises:
        MergeError: There is no such option, or it does not take that value.
        PluginError: There is no such method.
    """
    asked = dict(given)
    if method == GROW:
        inner = str(asked.pop("method", DEFAULT_METHOD))
        return replace(choice(inner, asked, weights, origin=origin, rule_index=rule_index), grow=True)
    place = "" if origin is None else f"{origin}: "
    if is_fixed(method) or method == APPLY:
        if asked:
            raise MergeError(f"{place}method {method!r} takes no options, so not {min(asked)!r} either")
        return Choice(method, origin=origin or DEFAULT_ORIGIN, rule_index=rule_index, explicit=origin is not None)
    contract = _contract(method, place)
    unknown = [name for name in asked if name not in contract.options]
    if unknown:
        hint = _nearest(unknown[0], contract.options) or f"it takes {', '.join(contract.options) or 'none'}"
        raise MergeError(f"{place}method {method!r} has no option {unknown[0]!r}", hint=hint)
    options = {
        name: _value(f"{place}option {name!r} of {method!r}", option, asked.get(name, option.default))
        for name, option in contract.options.items()
    }
    return Choice(
        method,
        MappingProxyType(options),
        _weights(place, method, weights, contract),
        origin=origin or DEFAULT_ORIGIN,
        rule_index=rule_index,
        explicit=origin is not None,
    )


def is_fixed(method: str) -> bool:
    """Tell whether a method computes nothing: it takes a side, or leaves a conflict."""
    return method in FIXED_METHODS or method in side_names(MOST_SIDES)


def _contract(method: str, place: str) -> Any:
    try:
        return find_merge(method).contract
    except PluginError as error:
        known = [*FIXED_METHODS, APPLY, GROW, *names("merges")]
        raise PluginError(f"{place}{error.message}", hint=_nearest(method, known) or error.hint) from error


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {found[0]!r}" if found else ""


def _value(what: str, option: Option, given: object) -> float | str:
    if option.choices:
        if given not in option.choices:
            raise MergeError(f"{what} is {given!r}", hint=f"it is one of {', '.join(option.choices)}")
        return str(given)
    kind = "a whole number" if option.whole else "a number"
    hint = f"it is {kind} from {option.least:g} to {option.most:g}"
    try:
        value = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError) as error:
        raise MergeError(f"{what} is {given!r}", hint=hint) from error
    if not option.least <= value <= option.most or (option.whole and not value.is_integer()):
        raise MergeError(f"{what} is {given!r}", hint=hint)
    return value


def _weights(place: str, method: str, weights: Iterable[float], contract: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(weight) for weight in weights)
    except (ValueError, TypeError) as error:
        raise MergeError(f"{place}weights are numbers, one for each side", hint="weights: [0.7, 0.3]") from error
    if found and not contract.weighted:
        raise MergeError(f"{place}method {method!r} takes no weights")
    if any(not 0 <= weight <= 1e6 for weight in found) or (found and not any(found)):  # noqa: PLR2004 - a bound
        raise MergeError(f"{place}weights are {list(found)}", hint="they are not negative, and not all zero")
    return found
