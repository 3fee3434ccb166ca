"""Records of merges in commit messages, from which a merge can be repeated with the same bits.

Each checkpoint has one trailer in the message, whose value is JSON on one line (docs/merge-record.md).
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.rules import APPLY, Rules, is_fixed
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.conflicts import MOST_SIDES
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_merge
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan

TRAILER = "Theta-Merge"
_LEAST_SIDES = 2


@dataclass(frozen=True)
class Step:
    """A resolution of conflicts.

    Attributes:
        rules: One choice, for all parameters.
        patterns: Patterns of the parameters that it resolved; empty if it resolved all that it could.
        unread: Parameters that it left in conflict, if values of some of them could not be read.
    """

    rules: Rules
    patterns: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """How one checkpoint was merged.

    Attributes:
        path: Path of the merged checkpoint.
        base: Object id of the common ancestor's manifest; None if there is none.
        sides: Object ids of the manifests that were merged, ours first.
        commits: The commit of each side.
        rules: The rules, with values for all options, including seeds.
        versions: Version of each method that computed something.
        steps: Resolutions after the merge, in order.
        tool: Version of git-theta.
        unread: Parameters that were left in conflict, because values could not be read.
        unread_types: Likewise, because it was unknown whether a side only changed their element type.
        search: How the rules were chosen by evaluation; empty if they were not.
    """

    path: str
    base: str | None
    sides: tuple[str, ...]
    commits: tuple[str, ...]
    rules: Rules
    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    steps: tuple[Step, ...] = ()
    tool: str = ""
    unread: tuple[str, ...] = ()
    unread_types: tuple[str, ...] = ()
    search: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - what a record holds
        cls,
        path: str,
        manifests: Sequence[str | None],
        commits: Sequence[str],
        rules: Rules,
        plan: Plan,
        unread: tuple[str, ...] = (),
    ) -> Record | None:
        """Return the record of a merge; None if its rules decided nothing, or were not fully applied.

        Args:
            path: Path of the merged checkpoint.
            manifests: Object ids of the manifests, the common ancestor's first.
            commits: The commit of each side.
            rules: The rules.
            plan: The plan that followed from them.
            unread: Parameters that were left in conflict, because values could not be read.
        """
        if not plan.complete or not any(map(_decided_by_rules, plan.decisions)):
            return None
        base, *sides = manifests
        methods = {decision.choice.method for decision in plan.decisions if decision.action == "compute"}
        ids = tuple(side for side in sides if side is not None)
        types = plan.unread_types
        return cls(path, base, ids, tuple(commits), rules, versions_of(methods), (), __version__, unread, types)

    def resolved(self, step: Step) -> Record:
        """Return the record with one more resolution."""
        method = step.rules.defaults.method
        return replace(self, steps=(*self.steps, step), versions={**self.versions, **versions_of([method])})

    def to_json(self) -> str:
        """Return the value of the trailer: one line of JSON."""
        data: dict[str, Any] = {"path": self.path, "base": self.base, "sides": self.sides, "commits": self.commits}
        data["rules"] = self.rules.to_dict()
        if self.versions:
            data["versions"] = dict(self.versions)
        if self.unread:
            data["unread"] = self.unread
        if self.unread_types:
            data["unread_types"] = self.unread_types
        if self.steps:
            data["resolved"] = [
                {**step.rules.to_dict(), "parameters": step.patterns} | ({"unread": step.unread} if step.unread else {})
                for step in self.steps
            ]
        if self.search:
            data["search"] = dict(self.search)
        return json.dumps(data | {"git-theta": self.tool}, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what ``to_json`` returned.

        Raises:
            MergeError: The text is not a valid record.
            PluginError: A method is not installed.
        """
        try:
            data = read_json(text)
            steps = [
                Step(Rules.from_dict(step), _texts(step["parameters"]), _texts(step.get("unread", [])))
                for step in data.get("resolved", [])
            ]
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
                _texts(data.get("unread", [])),
                _texts(data.get("unread_types", [])),
                {_text(name): _text(value) for name, value in data.get("search", {}).items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise MergeError(f"not a valid record of a merge: {text[:80]}") from error
        if not _LEAST_SIDES <= len(record.sides) <= MOST_SIDES:
            raise MergeError(f"not a valid record of a merge, it has {len(record.sides)} sides: {text[:80]}")
        return record


def _decided_by_rules(decision: Decision) -> bool:
    """Return whether the rules mattered for a parameter."""
    several = len({decision.sides[number] for number in decision.changed_by}) > 1
    return several or (decision.choice.every_side and bool(decision.changed_by))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError
    return tuple(map(_text, values))


def versions_of(methods: Iterable[str]) -> dict[str, int]:
    """Return the versions of methods, except those that compute nothing."""
    return {
        name: find_merge(name).contract.version for name in sorted(methods) if not (is_fixed(name) or name == APPLY)
    }
