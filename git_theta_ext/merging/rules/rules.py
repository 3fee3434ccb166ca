"""Merge rules: which method merges which parameter."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.rules.globs import matcher
from git_theta_ext.merging.rules.layers import interpolated
from git_theta_ext.merging.rules.options import checked_weights, number_or_word, values_by_depth
from git_theta_ext.model.conflicts import MOST_SIDES, side_names
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_merge, names
from git_theta_ext.util.text import similar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


FIXED_METHODS = ("ours", "theirs", "base", "conflict")
"""The methods that compute nothing and need no plug-in."""

APPLY = "apply"
"""The method that applies their change to our value: ours + (theirs - base), exactly. It takes no options."""

DEFAULT_METHOD = "average"
DEFAULT_ORIGIN = "default"
GROW = "grow"
ALL_SIDES, CHANGED_SIDES = "all", "changed"
"""The values of the key ``sides`` of a rule."""
_NO_OPTIONS: Mapping[str, float | str] = MappingProxyType({})
_NO_GRADIENTS: Mapping[str, tuple[float, ...]] = MappingProxyType({})


@dataclass(frozen=True)
class Choice:
    """The method by which parameters that several sides changed are merged.

    Attributes:
        method: The name of a plug-in, ``apply``, ``ours``, ``theirs``, ``base`` or ``conflict``; if several branches
            are merged, also the name of a side, such as ``theirs2``.
        options: A value for each option of the method.
        weights: One weight for each side of the merge; empty for equal weights.
        gradients: Options whose value changes with the depth of a parameter: the values from the first layer to the
            last one. ``options`` has the first value.
        weight_gradients: Likewise for the weight of each side; empty if weights do not change.
        every_side: Whether it decides every parameter that a side changed, and sides that did not change a parameter
            take part in its merge. Otherwise a change by one side is taken.
        grow: Whether rows that one side appended are appended to the result for the other rows.
        origin: Where the choice comes from, for people.
        rule_index: Index of the rule, whose parameters share the scope ``rule``; 0 for the defaults.
        explicit: Whether it was asked for; False for the built-in default.
    """

    method: str
    options: Mapping[str, float | str] = field(default_factory=lambda: _NO_OPTIONS)
    weights: tuple[float, ...] = ()
    gradients: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: _NO_GRADIENTS)
    weight_gradients: tuple[tuple[float, ...], ...] = ()
    every_side: bool = False
    grow: bool = False
    origin: str = DEFAULT_ORIGIN
    rule_index: int = 0
    explicit: bool = False

    @property
    def words(self) -> str:
        """Method, options and weights, for people."""
        options = [f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in self.options.items()]
        weights = [f"weights={','.join(f'{weight:g}' for weight in self.weights)}"] if self.weights else []
        sides = ["sides=all"] if self.every_side else []
        return " ".join([*([GROW] if self.grow else []), self.method, *options, *weights, *sides])

    @property
    def written(self) -> dict[str, object]:
        """The options as a rules file has them: lists for those that change with the depth."""
        return {**self.options, **{name: list(values) for name, values in self.gradients.items()}}

    @property
    def written_weights(self) -> list[float | list[float]]:
        """The weights as a rules file has them."""
        return [list(values) if len(values) > 1 else values[0] for values in self.weight_gradients] or [*self.weights]

    def at(self, depth: float) -> Choice:
        """Return the choice for a parameter at a depth from 0 to 1."""
        if not self.gradients and not self.weight_gradients:
            return self
        changed = {name: interpolated(values, depth) for name, values in self.gradients.items()}
        weights = tuple(interpolated(values, depth) for values in self.weight_gradients) or self.weights
        options = MappingProxyType({**self.options, **changed})
        return replace(self, options=options, weights=weights, gradients=_NO_GRADIENTS, weight_gradients=())

    def of_sides(self, numbers: Sequence[int], count: int) -> Choice:
        """Return the choice for a file that only some of the sides have: with the weights of these, if it has weights.

        A method that takes the value of a side takes that of the same side, by the name that it has among those with
        the file. Without one, the values are in conflict.

        Args:
            numbers: Indices of the sides that have the file.
            count: The number of all sides. Weights for another number of sides are kept.
        """
        method = self.method
        if method in ("theirs", *side_names(MOST_SIDES)) and len(numbers) < count:
            those = [name for number, name in enumerate(side_names(count)) if number in numbers]
            method = side_names(len(numbers))[those.index(method)] if method in those else "conflict"
        if len(self.weights) != count:
            return replace(self, method=method)
        gradients = tuple(self.weight_gradients[number] for number in numbers) if self.weight_gradients else ()
        weights = tuple(self.weights[number] for number in numbers)
        return replace(self, method=method, weights=weights, weight_gradients=gradients)


@dataclass(frozen=True)
class Rule:
    """A choice for the parameters whose names match a pattern."""

    match: str
    choice: Choice


@dataclass(frozen=True)
class Rules:
    """Choices for all parameters: the last rule that matches applies, or the defaults if no rule matches."""

    defaults: Choice
    rules: tuple[Rule, ...] = field(default=())

    def __post_init__(self) -> None:
        compiled = [(matcher(rule.match), rule.choice) for rule in self.rules]
        object.__setattr__(self, "_compiled", list(reversed(compiled)))

    @classmethod
    def only(
        cls, method: str = DEFAULT_METHOD, options: Mapping[str, object] = _NO_OPTIONS, origin: str | None = None
    ) -> Rules:
        """Return the same choice for every parameter.

        Raises:
            MergeError: The method does not have such an option, or the option does not take such a value.
            PluginError: The method is not installed.
        """
        return cls(choice(method, options, origin=origin))

    @property
    def choices(self) -> list[Choice]:
        """The defaults, and the choice of each rule."""
        return [self.defaults, *(rule.choice for rule in self.rules)]

    def choose(self, parameter: str, depth: float = 0.0) -> Choice:
        """Return the choice for a parameter at a depth of the model, from 0 to 1."""
        compiled: list[tuple[Any, Choice]] = getattr(self, "_compiled")  # noqa: B009 - made in __post_init__
        chosen = next((choice for pattern, choice in compiled if pattern.fullmatch(parameter)), self.defaults)
        return chosen.at(depth)

    def of_sides(self, numbers: Sequence[int], count: int) -> Rules:
        """Return the rules for a file that only some of the sides have; see ``Choice.of_sides``."""
        rules = (Rule(rule.match, rule.choice.of_sides(numbers, count)) for rule in self.rules)
        return Rules(self.defaults.of_sides(numbers, count), tuple(rules))

    def idle(self, parameters: Iterable[str]) -> list[Rule]:
        """Return the rules that match none of some parameters; usually their patterns are misspelled."""
        names = list(parameters)
        return [rule for rule in self.rules if not any(map(matcher(rule.match).fullmatch, names))]

    def to_dict(self) -> dict[str, Any]:
        """Return the rules, with all options filled in, as values for JSON; ``from_dict`` reads them."""
        rules = [{"match": rule.match, **_choice_dict(rule.choice)} for rule in self.rules]
        return _choice_dict(self.defaults) | ({"rules": rules} if rules else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rules:
        """Read what ``to_dict`` returned.

        Raises:
            ValueError, KeyError, TypeError: The data is not what ``to_dict`` returned.
            MergeError: A method does not take such options.
            PluginError: A method is not installed.
        """
        rules = [
            Rule(str(rule["match"]), _choice_from(rule, rule_index))
            for rule_index, rule in enumerate(data.get("rules", []), 1)
        ]
        return cls(_choice_from(data, 0), tuple(rules))


def _choice_dict(chosen: Choice) -> dict[str, object]:
    data: dict[str, object] = {"method": chosen.method}
    if chosen.options:
        data["with"] = chosen.written
    if chosen.weights:
        data["weights"] = chosen.written_weights
    if chosen.every_side:
        data["sides"] = ALL_SIDES
    return data | ({"grow": True} if chosen.grow else {})


def _choice_from(data: Mapping[str, Any], rule_index: int) -> Choice:
    options = dict(data.get("with", {}))
    chosen = choice(data["method"], options, data.get("weights", ()), origin="record", rule_index=rule_index)
    return replace(chosen, every_side=data.get("sides") == ALL_SIDES, grow=bool(data.get("grow", False)))


def choice(
    method: str,
    options: Mapping[str, object] = _NO_OPTIONS,
    weights: Iterable[object] = (),
    *,
    origin: str | None = None,
    rule_index: int = 0,
) -> Choice:
    """Return a choice with checked options, and defaults for all others.

    Args:
        method: Name of the method; ``grow`` merges by the method in the option ``method``, and appends new rows.
        options: Options by name; numbers may be strings. A list, or several numbers with commas, has the values from
            the first layer of the model to the last one.
        weights: One weight for each side of the merge; those that are lists change with the depth, too.
        origin: Where the choice comes from, for people; None for the built-in default.
        rule_index: Index of the rule; 0 for the defaults.

    Raises:
        MergeError: The method does not have such an option, or the option does not take such a value.
        PluginError: The method is not installed.
    """
    remaining = dict(options)
    if method == GROW:
        inner = str(remaining.pop("method", DEFAULT_METHOD))
        return replace(choice(inner, remaining, weights, origin=origin, rule_index=rule_index), grow=True)
    place = "" if origin is None else f"{origin}: "
    if is_fixed(method) or method == APPLY:
        if remaining:
            raise MergeError(f"{place}method {method!r} takes no options, but {min(remaining)!r} is given")
        return Choice(method, origin=origin or DEFAULT_ORIGIN, rule_index=rule_index, explicit=origin is not None)
    contract = _contract(method, place)
    unknown = [name for name in remaining if name not in contract.options]
    if unknown:
        hint = _nearest(unknown[0], contract.options) or f"its options are: {', '.join(contract.options) or 'none'}"
        raise MergeError(f"{place}method {method!r} has no option {unknown[0]!r}", hint=hint)
    gradients = {
        name: tuple(
            float(number_or_word(_what(place, name, method), contract.options[name], value)) for value in values
        )
        for name, written in remaining.items()
        if (values := values_by_depth(written, contract.options[name]))
    }
    first = {name: values[0] for name, values in gradients.items()}
    checked = {
        name: number_or_word(_what(place, name, method), option, first.get(name, remaining.get(name, option.default)))
        for name, option in contract.options.items()
    }
    by_depth = checked_weights(place, method, weights, contract)
    return Choice(
        method,
        MappingProxyType(checked),
        tuple(values[0] for values in by_depth),
        MappingProxyType(gradients),
        by_depth if any(len(values) > 1 for values in by_depth) else (),
        origin=origin or DEFAULT_ORIGIN,
        rule_index=rule_index,
        explicit=origin is not None,
    )


def _what(place: str, name: str, method: str) -> str:
    return f"{place}option {name!r} of {method!r}"


def is_fixed(method: str) -> bool:
    """Return whether a method computes nothing, that is, takes a side or leaves a conflict."""
    return method in FIXED_METHODS or method in side_names(MOST_SIDES)


def _contract(method: str, place: str) -> Any:
    try:
        return find_merge(method).contract
    except PluginError as error:
        methods = [*FIXED_METHODS, APPLY, GROW, *names("merges")]
        raise PluginError(f"{place}{error.message}", hint=_nearest(method, methods) or error.hint) from error


def _nearest(word: str, words: Iterable[str]) -> str:
    near = similar(word, words)
    return f"did you mean {near!r}" if near else ""
