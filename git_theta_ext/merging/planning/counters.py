"""Counters that every training raises, such as ``num_batches_tracked`` of a batch norm: the larger one counts.

The sum would be no better: running means and variances, to which the counter belongs, are averaged. The larger one does
not grow when the same two branches are merged again.
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
_ORIGIN = "a counter"


def for_counters(name: str, versions: Iterable[Parameter | None], asked: Choice) -> Choice:
    """Return the choice for a parameter: the larger value if it is a counter and the method takes no integers.

    Args:
        name: Of the parameter.
        versions: Its values.
        asked: What the rules say.
    """
    if name.rpartition(".")[2] != _NAME or is_fixed(asked.method):
        return asked
    if asked.method != APPLY and find_merge(asked.method).contract.integers:
        return asked
    known = [value.spec for value in versions if value is not None]
    counted = all(spec.dtype.kind in ("int", "uint") and spec.elements == 1 for spec in known)
    return choice(_METHOD, origin=_ORIGIN, rule_index=asked.rule_index) if counted else asked
