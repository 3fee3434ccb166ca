"""Read merge rules: the file ``.thetamerge`` of a repository, and what overrides it.

The file is YAML with a few keys. It is overridden, in ascending order, by the settings ``theta.merge.method`` and
``theta.merge.options``, the environment variable ``GIT_THETA_MERGE``, and the command line. A method replaces the rules
of the file; options alone change every choice that has them.
"""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.globs import matcher
from git_theta_ext.merging.rules.rules import (
    ALL_SIDES,
    APPLY,
    CHANGED_SIDES,
    DEFAULT_METHOD,
    Choice,
    Rule,
    Rules,
    choice,
    is_fixed,
)
from git_theta_ext.merging.rules.yaml_file import YamlFile
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_merge
from git_theta_ext.util.text import similar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import yaml

FILE = ".thetamerge"
_YAML = YamlFile(FILE, f"edit {FILE}; git theta merge --plan BRANCH checks it")
_TOP = ("version", "defaults", "rules")
_CHOICE = ("method", "with", "weights", "sides")
_RULE = ("match", *_CHOICE)


@dataclass(frozen=True)
class Override:
    """A choice that overrides the file.

    Attributes:
        origin: Where it comes from, for people.
        method: Name of the method; None if only options change.
        options: Options by name, as text.
        weights: One weight for each side.
        every_side: As for ``Choice``; None if it does not change.
    """

    origin: str
    method: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    every_side: bool | None = None


def parse_override(origin: str, words: Sequence[str]) -> Override:
    """Read ``METHOD``, ``method=METHOD``, ``weights=W,W``, ``sides=all`` and ``OPTION=VALUE``.

    Raises:
        MergeError: A word has another form.
    """
    method: str | None = None
    options: dict[str, str] = {}
    weights: tuple[float, ...] = ()
    every_side: bool | None = None
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name == "method":
            method = value if equals else name
        elif name == "weights":
            try:
                weights = tuple(map(float, value.split(",")))
            except ValueError as error:
                raise MergeError(f"{origin}: weights {value!r} are not numbers", hint="weights=0.7,0.3") from error
        elif name == "sides":
            every_side = is_every_side(value, origin)
        else:
            options[name] = value
    return Override(origin, method, options, weights, every_side)


def is_every_side(value: object, origin: str) -> bool:
    """Return whether a value of ``sides`` lets all sides take part in a merge.

    Raises:
        MergeError: There is no such value.
    """
    if value not in (ALL_SIDES, CHANGED_SIDES):
        raise MergeError(f"{origin}: 'sides' is {value!r}", hint=f"use {ALL_SIDES} or {CHANGED_SIDES}")
    return value == ALL_SIDES


def read_rules(text: bytes | None, overrides: Sequence[Override] = ()) -> Rules:
    """Return the rules that apply.

    Args:
        text: Content of ``.thetamerge``; None if there is no such file.
        overrides: What overrides it, in ascending order of precedence.

    Raises:
        MergeError: The file or an override is not valid.
        PluginError: A method is not installed.
    """
    return overridden(Rules(choice(DEFAULT_METHOD)) if text is None else _from_file(text), overrides)


def overridden(rules: Rules, overrides: Sequence[Override]) -> Rules:
    """Return rules after overrides, which are given in ascending order of precedence.

    Raises:
        MergeError: An override is not valid.
        PluginError: A method is not installed.
    """
    named = [number for number, override in enumerate(overrides) if override.method is not None]
    for override in overrides[max(named, default=0) :]:  # what comes before a method is replaced, valid or not
        if override.method is not None:
            chosen = choice(override.method, override.options, override.weights, origin=override.origin)
            rules = Rules(replace(chosen, every_side=bool(override.every_side)))
        elif override.options or override.weights or override.every_side is not None:
            rules = _changed(rules, override)
    return rules


def _changed(rules: Rules, override: Override) -> Rules:
    """Change options in every choice that has them."""
    for name, value in override.options.items():
        if not any(name in choice.options for choice in rules.choices):
            names = {"method", "weights", "sides"}.union(*(choice.options for choice in rules.choices))
            near = similar(name, sorted(names))
            raise MergeError(
                f"{override.origin}: no method in the rules has the option {name!r}",
                hint=f"did you mean {near}={value}?" if near else "also name the method, such as method=ties",
            )
    return Rules(
        _with(rules.defaults, override), tuple(Rule(rule.match, _with(rule.choice, override)) for rule in rules.rules)
    )


def _with(chosen: Choice, override: Override) -> Choice:
    every_side = chosen.every_side if override.every_side is None else override.every_side
    if every_side != chosen.every_side:
        chosen = replace(chosen, every_side=every_side, origin=override.origin, explicit=True)
    options = chosen.written | {name: v for name, v in override.options.items() if name in chosen.options}
    weights = override.weights or chosen.written_weights
    if chosen.written == options and chosen.written_weights == [*weights]:
        return chosen
    if is_fixed(chosen.method) or chosen.method == APPLY:
        return chosen
    if not (chosen.options or find_merge(chosen.method).contract.weighted):
        return chosen
    changed = choice(chosen.method, options, weights, origin=override.origin, rule_index=chosen.rule_index)
    return replace(changed, grow=chosen.grow, every_side=every_side)


def _from_file(text: bytes) -> Rules:
    node = _YAML.parse(text)
    if node is None:
        return Rules(choice(DEFAULT_METHOD))
    top = _YAML.mapping(node, _TOP)
    version = top.get("version")
    if version is None or _YAML.value(version) != 1:
        raise _YAML.error(version or node, "expected the first key to be 'version: 1'")
    defaults = choice(DEFAULT_METHOD)
    if "defaults" in top:
        defaults = _choice(top["defaults"], _YAML.mapping(top["defaults"], _CHOICE), 0, defaults)
    entries = _YAML.sequence(top["rules"], "rules") if "rules" in top else []
    return Rules(defaults, tuple(_rule(entry, number, defaults) for number, entry in enumerate(entries, 1)))


def _rule(entry: yaml.Node, rule_index: int, fallback: Choice) -> Rule:
    keys = _YAML.mapping(entry, _RULE)
    if "match" not in keys:
        raise _YAML.error(entry, "the rule has no key 'match'")
    pattern = _YAML.value(keys["match"])
    if not isinstance(pattern, str):
        raise _YAML.error(keys["match"], "'match' must be a string")
    try:
        matcher(pattern)
    except ValueError as error:
        raise _YAML.error(keys["match"], str(error)) from error
    return Rule(pattern, _choice(entry, keys, rule_index, fallback))


def _choice(node: yaml.Node, keys: Mapping[str, yaml.Node], rule_index: int, fallback: Choice) -> Choice:
    method = _YAML.value(keys["method"]) if "method" in keys else fallback.method
    options = _YAML.value(keys["with"]) if "with" in keys else {}
    weights = _YAML.value(keys["weights"]) if "weights" in keys else ()
    if not isinstance(method, str):
        raise _YAML.error(keys["method"], "'method' must be a name")
    if not isinstance(options, AbstractMapping):
        raise _YAML.error(keys["with"], "'with' must be a mapping of options")
    if not isinstance(weights, list | tuple):
        raise _YAML.error(keys["weights"], "'weights' must be a list of numbers")
    every_side = fallback.every_side
    if "sides" in keys:
        every_side = is_every_side(_YAML.value(keys["sides"]), _YAML.place(keys["sides"]))
    chosen = choice(method, options, weights, origin=_YAML.place(node), rule_index=rule_index)
    return replace(chosen, every_side=every_side)
