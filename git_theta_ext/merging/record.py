"""What a merge commit says of how its checkpoints came to be, so that anybody can make the same bits again.

Each checkpoint has one trailer of the commit's message, whose value is JSON in one line (docs/merge-record.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.rules import APPLY, Rules, is_fixed
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.manifest import MOST_SIDES
from git_theta_ext.registry import find_merge
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.merging.planning.plan import Plan

TRAILER = "Theta-Merge"
_LEAST_SIDES = 2


@dataclass(frozen=True)
class Step:
    """A resolution of what the rules had left undecided.

    Attributes:
        rules: One choice, for all parameters.
        patterns: Of the parameters that it settled; none where it settled all that it could.
    """

    rules: Rules
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """How the merged version of one checkpoint came to be.

    Attributes:
        path: Of the merged checkpoint.
        base: Git's id of the common ancestor's manifest, None where there is none.
        sides: Git's ids of the manifests that were merged, ours first.
        commits: The commit of each side.
        rules: With all options filled in, seeds among them.
        versions: Of the methods that computed something.
        steps: Resolutions behind the merge, in their order.
        tool: Version of git-theta.
    """

    path: str
    base: str | None
    sides: tuple[str, ...]
    commits: tuple[str, ...]
    rules: Rules
    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    steps: tuple[Step, ...] = ()
    tool: str = ""

    @classmethod
    def of(
        cls, path: str, manifests: Sequence[str | None], commits: Sequence[str], rules: Rules, plan: Plan
    ) -> Record | None:
        """Return the record of a merge, None if its rules had nothing to say or were not carried out in full.

        Args:
            path: Of the merged checkpoint.
            manifests: Git's ids, the common ancestor's first.
            commits: The commit of each side.
            rules: How.
            plan: What came of that.
        """
        if not plan.complete or not any(len({d.sides[number] for number in d.changed_by}) > 1 for d in plan.decisions):
            return None
        base, *sides = manifests
        methods = {decision.choice.method for decision in plan.decisions if decision.action == "compute"}
        ids = tuple(side for side in sides if side is not None)
        return cls(path, base, ids, tuple(commits), rules, versions_of(methods), (), __version__)

    def resolved(self, step: Step) -> Record:
        """Return the record of the same merge with one more resolution behind it."""
        method = step.rules.defaults.method
        return replace(self, steps=(*self.steps, step), versions={**self.versions, **versions_of([method])})

    def to_json(self) -> str:
        """Return one line of JSON, the value of the trailer."""
        data: dict[str, Any] = {"path": self.path, "base": self.base, "sides": self.sides, "commits": self.commits}
        data["rules"] = self.rules.to_dict()
        if self.versions:
            data["versions"] = dict(self.versions)
        if self.steps:
            data["resolved"] = [{**step.rules.to_dict(), "parameters": step.patterns} for step in self.steps]
        return json.dumps(data | {"git-theta": self.tool}, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what ``to_json`` wrote.

        Raises:
            MergeError: It is not that.
            PluginError: A method is not installed.
        """
        try:
            data = read_json(text)
            steps = [Step(Rules.from_dict(each), _texts(each["parameters"])) for each in data.get("resolved", [])]
            base = None if data["base"] is None else _text(data["base"])
            record = cls(
                _text(data["path"]),
                base,
                _texts(data["sides"]),
                _texts(data["commits"]),
                Rules.from_dict(data["rules"]),
                {_text(name): int(number) for name, number in data.get("versions", {}).items()},
                tuple(steps),
                _text(data["git-theta"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise MergeError(f"this is no record of a merge: {text[:80]}") from error
        if not _LEAST_SIDES <= len(record.sides) <= MOST_SIDES:
            raise MergeError(f"a record of a merge of {len(record.sides)} sides: {text[:80]}")
        return record


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError
    return tuple(map(_text, values))


def versions_of(methods: Iterable[str]) -> dict[str, int]:
    """Return the versions of methods, without those that compute nothing."""
    return {
        name: find_merge(name).contract.version for name in sorted(methods) if not (is_fixed(name) or name == APPLY)
    }
