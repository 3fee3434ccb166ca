"""Determine the rules of a merge from the repository, its settings, the environment and the command line.

Rules are written for merges. If git replays a change (``git_theta_ext.git.operation``), rules that take a side or leave
a conflict still apply. Merge methods are replaced by ``theta.merge.replay``, because they would lose a part of the
change, or of the version that it is applied to. Options of the command itself always apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.config import FORMER_MERGE_OPTIONS
from git_theta_ext.errors import MergeError
from git_theta_ext.git.operation import MERGE
from git_theta_ext.git.process import MERGE_OPTIONS
from git_theta_ext.merging.rules.file import FILE, overridden, parse_override, read_rules
from git_theta_ext.merging.rules.rules import APPLY, DEFAULT_METHOD, Choice, Rule, Rules, choice, is_fixed
from git_theta_ext.records import replace
from git_theta_ext.statistics.sidecar import is_statistics
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.config import Config
    from git_theta_ext.git.operation import Operation
    from git_theta_ext.operations.merge.rule_sources import RuleSources
    from git_theta_ext.util.reporter import Reporter

AS_MERGES = "rules"
"""The value of ``theta.merge.replay`` with which replays follow the rules like merges."""

SETTINGS = "theta.merge.method and theta.merge.options"


def merge_rules(
    sources: RuleSources,
    *names: Iterable[str],
    words: Sequence[str] = (),
    operation: Operation = MERGE,
    recorded: Rules | None = None,
) -> Rules:
    """Return the rules for merging a checkpoint.

    Args:
        sources: The sources of the rules.
        names: Names of the checkpoint's parameters.
        words: Options of the command line; they override ``GIT_THETA_MERGE`` and the settings.
        operation: The operation that git is performing.
        recorded: The rules of a merge that is repeated; they replace the file and the settings.

    Raises:
        MergeError: The rules are not valid, or a rule matches nothing in any checkpoint.
        PluginError: A method is not installed.
    """
    settings = parse_override(SETTINGS, sources.settings)
    favoured = [] if operation.favoured is None else [operation.favoured]
    commanded = [
        parse_override(SETTINGS, sources.command_line),
        parse_override(MERGE_OPTIONS, sources.environment),
        parse_override("command line", [*favoured, *words]),
    ]
    own_names = {name for some in names for name in some}
    if operation.kind == "merge" and recorded is None:
        rules = read_rules(sources.file, [settings, *commanded])
    elif operation.kind == "merge" and recorded is not None:
        rules = overridden(recorded, commanded)
    else:
        rules = overridden(
            _mapped(read_rules(sources.file, [settings]), _instead(sources.replay, operation)), commanded
        )
    idle = [] if recorded is not None else rules.idle(own_names)
    if idle and (idle := [rule for rule in idle if rule in rules.idle(sources.all_names())]):
        raise MergeError(
            f"{idle[0].choice.origin}: no parameter of any checkpoint matches {idle[0].match!r}",
            hint=f"git theta ls-files --params lists them; correct {FILE}",
        )
    return _mapped(rules, _mean) if is_statistics(own_names) else rules


def warn_of_former_settings(settings: Config, reporter: Reporter) -> None:
    """Report a setting that has a new name, if only the old name is set."""
    former = settings.former_merge_options
    if former:
        hint = f"git config theta.merge.options {shell_word(former)} && git config --unset {FORMER_MERGE_OPTIONS}"
        reporter.warning(f"the setting {FORMER_MERGE_OPTIONS} is now called theta.merge.options", hint)


def _instead(replay: str | None, operation: Operation) -> Callable[[Choice], Choice]:
    """Return what replaces merge methods if git does not merge but replays a change."""
    words = (replay or APPLY).split()
    if operation.kind == "unknown":
        replacement = choice("conflict", origin=f"git {operation.name}")
    elif words == [AS_MERGES]:
        return lambda rule: rule
    else:
        override = parse_override("theta.merge.replay", words)
        replacement = choice(
            override.method or APPLY, override.options, override.weights, origin=f"git {operation.name}"
        )

    def replayed(rule: Choice) -> Choice:
        """Return what a rule means for a replay: a change by one side alone is part of the result in any case."""
        if is_fixed(rule.method):
            return replace(rule, every_side=False)
        return replace(replacement, rule_index=rule.rule_index)

    return replayed


def _mean(rule: Choice) -> Choice:
    """Merge statistics by their mean if the rules name a method for values.

    Weights of models are those of the mean, unless some are negative: a model that is subtracted has no share of it.
    """
    if is_fixed(rule.method) or rule.method == APPLY:
        return rule
    origin = rule.origin if rule.explicit else None
    numbers = [number for values in rule.weight_gradients or [rule.weights] for number in values]
    weights = rule.written_weights if min(numbers, default=0.0) >= 0 else []
    return choice(DEFAULT_METHOD, weights=weights, origin=origin, rule_index=rule.rule_index)


def _mapped(rules: Rules, mapping: Callable[[Choice], Choice]) -> Rules:
    return Rules(mapping(rules.defaults), tuple(Rule(rule.match, mapping(rule.choice)) for rule in rules.rules))
