"""Take the larger value of counters that training increments, such as ``num_batches_tracked`` of a batch norm.

The sum would not be better, because the running mean and variance that the counter belongs to are averaged. The larger
value does not grow when the same two branches are merged again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.rules.rules import APPLY, choice, is_fixed
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Parameter

_NAME = "num_batches_tracked"
_METHOD = "max"
_ORIGIN = "built-in rule for counters"


def for_counters(name: str, versions: Iterable[Parameter | None], choice_by_rules: Choice) -> Choice:
    """Return the choice for a parameter: the larger value if it is a counter and the method does not merge integers.

    Args:
        name: The parameter.
        versions: Its values.
        choice_by_rules: The choice by the rules.
    """
    if name.rpartition(".")[2] != _NAME or is_fixed(choice_by_rules.method):
        return choice_by_rules
    if choice_by_rules.method != APPLY and find_merge(choice_by_rules.method).contract.integers:
        return choice_by_rules
    specs = [value.spec for value in versions if value is not None]
    is_counter = all(spec.dtype.kind in ("int", "uint") and spec.elements == 1 for spec in specs)
    return choice(_METHOD, origin=_ORIGIN, rule_index=choice_by_rules.rule_index) if is_counter else choice_by_rules
