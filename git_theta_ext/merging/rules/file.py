"""Read merge rules: the file ``.thetamerge`` of a repository, and what overrides it.

The file is YAML with a few keys, without tags, anchors or aliases. Reading it takes less than a second: PyYAML needs
tens of microseconds for an event, so the file's bytes, events and depth are limited. It is overridden, in ascending
order, by the settings ``theta.merge.method`` and ``theta.merge.options``, the environment variable ``GIT_THETA_MERGE``,
and the command line. A method replaces the rules of the file; options alone change every choice that has them.
"""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.globs import matcher
from git_theta_ext.merging.rules.rules import APPLY, DEFAULT_METHOD, Choice, Rule, Rules, choice, is_fixed
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_merge
from git_theta_ext.util.text import similar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import yaml

FILE = ".thetamerge"
MOST_BYTES = 1 << 18
"""The maximum size of the file."""
MOST_EVENTS = 1 << 14
"""The maximum number of scalars, and of starts and ends of lists and mappings; a rule has about eight."""
MOST_DEPTH = 8
"""The maximum depth of nested lists and mappings; rules need four."""
_SPELLING = f"edit {FILE}; git theta merge --plan BRANCH checks it"
_TOP = ("version", "defaults", "rules")
_CHOICE = ("method", "with", "weights")
_RULE = ("match", *_CHOICE)


@dataclass(frozen=True)
class Override:
    """A choice that overrides the file.

    Attributes:
        origin: Where it comes from, for people.
        method: Name of the method; None if only options change.
        options: Options by name, as text.
        weights: One weight for each side.
    """

    origin: str
    method: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[float, ...] = ()


def parse_override(origin: str, words: Sequence[str]) -> Override:
    """Read ``METHOD``, ``method=METHOD``, ``weights=W,W`` and ``OPTION=VALUE``.

    Raises:
        MergeError: A word has another form.
    """
    method: str | None = None
    options: dict[str, str] = {}
    weights: tuple[float, ...] = ()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name == "method":
            method = value if equals else name
        elif name == "weights":
            try:
                weights = tuple(map(float, value.split(",")))
            except ValueError as error:
                raise MergeError(f"{origin}: weights {value!r} are not numbers", hint="weights=0.7,0.3") from error
        else:
            options[name] = value
    return Override(origin, method, options, weights)


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
            rules = Rules(choice(override.method, override.options, override.weights, origin=override.origin))
        elif override.options or override.weights:
            rules = _changed(rules, override)
    return rules


def _changed(rules: Rules, override: Override) -> Rules:
    """Change options in every choice that has them."""
    every = [rules.defaults, *(rule.choice for rule in rules.rules)]
    for name, value in override.options.items():
        if not any(name in choice.options for choice in every):
            names = {"method", "weights"}.union(*(choice.options for choice in every))
            near = similar(name, sorted(names))
            raise MergeError(
                f"{override.origin}: no method in the rules has the option {name!r}",
                hint=f"did you mean {near}={value}?" if near else "also name the method, such as method=ties",
            )
    return Rules(
        _with(rules.defaults, override), tuple(Rule(rule.match, _with(rule.choice, override)) for rule in rules.rules)
    )


def _with(chosen: Choice, override: Override) -> Choice:
    options = {**chosen.options, **{name: v for name, v in override.options.items() if name in chosen.options}}
    weights = override.weights or chosen.weights
    if chosen.options == options and chosen.weights == weights:
        return chosen
    if is_fixed(chosen.method) or chosen.method == APPLY:
        return chosen
    if not (chosen.options or find_merge(chosen.method).contract.weighted):
        return chosen
    changed = choice(chosen.method, options, weights, origin=override.origin, rule_index=chosen.rule_index)
    return replace(changed, grow=chosen.grow)


def _from_file(text: bytes) -> Rules:
    import yaml

    if len(text) > MOST_BYTES:
        raise MergeError(f"{FILE} exceeds the limit of {MOST_BYTES} bytes")
    try:
        _check_events(yaml.parse(text.decode(), Loader=yaml.SafeLoader))
        node = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise MergeError(f"{FILE} is not UTF-8", hint=_SPELLING) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise MergeError(f"{FILE}{line}: {getattr(error, 'problem', error)}", hint=_SPELLING) from error
    if node is None:
        return Rules(choice(DEFAULT_METHOD))
    return _rules(node)


def _check_events(events: Iterable[yaml.Event]) -> None:
    """Reject rules that take long to read, or use features of YAML that hide their meaning."""
    import yaml

    depth = 0
    for count, event in enumerate(events, 1):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _bad(event, "anchors and aliases are not allowed")
        if getattr(event, "tag", None) is not None:
            raise _bad(event, "tags are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise _bad(event, f"lists and mappings are nested more than {MOST_DEPTH} deep")
        if count > MOST_EVENTS:
            raise _bad(event, "too many rules")


def _rules(node: yaml.Node) -> Rules:
    top = _mapping(node, _TOP)
    version = top.get("version")
    if version is None or _plain(version) != 1:
        raise _bad(version or node, "expected the first key to be 'version: 1'")
    defaults = choice(DEFAULT_METHOD)
    if "defaults" in top:
        defaults = _choice(top["defaults"], _mapping(top["defaults"], _CHOICE), 0, DEFAULT_METHOD)
    entries = _sequence(top["rules"]) if "rules" in top else []
    return Rules(defaults, tuple(_rule(entry, number, defaults.method) for number, entry in enumerate(entries, 1)))


def _rule(entry: yaml.Node, rule_index: int, fallback: str) -> Rule:
    keys = _mapping(entry, _RULE)
    if "match" not in keys:
        raise _bad(entry, "the rule has no key 'match'")
    pattern = _plain(keys["match"])
    if not isinstance(pattern, str):
        raise _bad(keys["match"], "'match' must be a string")
    try:
        matcher(pattern)
    except ValueError as error:
        raise _bad(keys["match"], str(error)) from error
    return Rule(pattern, _choice(entry, keys, rule_index, fallback))


def _choice(node: yaml.Node, keys: Mapping[str, yaml.Node], rule_index: int, fallback: str) -> Choice:
    method = _plain(keys["method"]) if "method" in keys else fallback
    options = _plain(keys["with"]) if "with" in keys else {}
    weights = _plain(keys["weights"]) if "weights" in keys else ()
    if not isinstance(method, str):
        raise _bad(keys["method"], "'method' must be a name")
    if not isinstance(options, AbstractMapping):
        raise _bad(keys["with"], "'with' must be a mapping of options")
    if not isinstance(weights, list | tuple):
        raise _bad(keys["weights"], "'weights' must be a list of numbers")
    return choice(method, options, weights, origin=f"{FILE} line {node.start_mark.line + 1}", rule_index=rule_index)


def _mapping(node: yaml.Node, allowed: Sequence[str]) -> dict[str, yaml.Node]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise _bad(node, f"expected a mapping with the keys {', '.join(allowed)}")
    keys: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _plain(key)
        if name not in allowed:
            raise _bad(key, f"unknown key {name!r}; the keys are {', '.join(allowed)}")
        if name in keys:
            raise _bad(key, f"duplicate key {name!r}")
        keys[name] = value
    return keys


def _sequence(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if not isinstance(node, yaml.SequenceNode):
        raise _bad(node, "'rules' must be a list")
    return list(node.value)


def _plain(node: yaml.Node) -> Any:
    """Return the value of a node: strings, numbers, booleans, lists and mappings."""
    import yaml

    loader = yaml.SafeLoader("")
    try:
        if isinstance(node, yaml.MappingNode):
            return {str(_plain(key)): _plain(value) for key, value in node.value}
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _bad(node, "not a valid value") from error
    finally:
        loader.dispose()


def _bad(place: Any, what: str) -> MergeError:
    return MergeError(f"{FILE} line {place.start_mark.line + 1}: {what}", hint=_SPELLING)
