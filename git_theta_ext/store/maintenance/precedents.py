"""Store small tensors as similar ones were stored, instead of comparing all ways to store each of them.

For a tensor of a few kilobytes, comparing takes several times as long as encoding. The tensors of one size in a model,
and the versions of one parameter, mostly change alike, so only some of them are compared.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.encode import DeltaHint
from git_theta_ext.store.maintenance.cheapest import StoragePlan

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from git_theta_ext.store.maintenance.cheapest import Candidate, PossibleParent

    Choice = tuple[Candidate, Sequence[PossibleParent]]
    """A tensor and its possible parents."""

LARGEST = 1 << 17
"""Bytes of a tensor up to which others can decide for it. They can for all bundles: no encoding but ``delta`` is for
these."""

ENOUGH = 16
"""Number of comparisons, one after the other, that must have the same result."""

EVERY = 32
"""One tensor in so many is compared in any case, because training may change."""

RARELY = 8
"""So is one after so many groups, such as versions of a model with few tensors of a kind."""

SURE = 64
"""Number of equal results, one after the other, from which on a quarter as many tensors are compared."""

_LESS = 4

_STAY = -1
"""A result: no delta is worth it. Other results are the index of a parent, for a delta of it."""


@dataclass
class _Record:
    """The last results of comparisons of a kind.

    Attributes:
        result: The last one; None if it is not to be taken over.
        times: How often it came, one after the other.
        share: Stored bytes of a delta, as a share of the tensor's bytes.
        tensors: Number of tensors that were not compared since.
        groups: Number of groups of which none was compared since.
    """

    result: int | None = None
    times: int = 0
    share: float = 0.0
    tensors: int = 0
    groups: int = 0

    def first(self, alike: Sequence[Choice]) -> Sequence[Choice]:
        """Return which of a group of tensors to compare first."""
        if self.times < ENOUGH:
            step = max(1, min(EVERY, len(alike) // (ENOUGH - self.times)))
            start = 0
        else:
            less = 1 if self.times < SURE else _LESS
            step = less * EVERY
            start = 0 if self.groups >= less * RARELY else max(0, step - self.tensors)
        chosen = alike[start::step]
        left = (len(alike) - 1 - start) % step if chosen else len(alike)
        self.tensors, self.groups = (left, 0) if chosen else (self.tensors + left, self.groups + 1)
        return chosen


class Precedents:
    """The results of comparisons by kind of tensor: its spec, and the specs and chain depths of its possible parents.

    Only the encoding ``delta`` is taken over, because it has no parameters that depend on values. If a tensor differs
    from its parent more than the others, ``delta`` takes hardly more bytes than a dense encoding. Which tensors are
    compared does not depend on the order in which threads finish.
    """

    def __init__(self) -> None:
        self._records: dict[Hashable, _Record] = defaultdict(_Record)

    def first(self, choices: Sequence[Choice]) -> list[Choice]:
        """Return which of a group of tensors to compare first, after which the others may be decided."""
        chosen: list[Choice] = []
        kinds: dict[Hashable, list[Choice]] = defaultdict(list)
        for choice in choices:
            if not _may_follow(choice[0]):
                chosen.append(choice)
            else:
                kinds[_kind(choice)].append(choice)
        for kind, alike in kinds.items():
            chosen += self._records[kind].first(alike)
        return chosen

    def note(self, choice: Choice, plan: StoragePlan | None) -> None:
        """Record the result of a comparison: a plan, or None if no delta is worth it."""
        candidate, parents = choice
        record = self._records[_kind(choice)]
        result: int | None = None if plan else _STAY
        if plan is not None and plan.hint is not None and plan.hint.encoding == "delta":
            result = next(at for at, parent in enumerate(parents) if parent.digest == plan.hint.parent)
        same = result is not None and result == record.result
        record.result, record.times = result, record.times + 1 if same else int(result is not None)
        if plan is not None:
            record.share += (plan.stored / candidate.spec.nbytes - record.share) / min(record.times or 1, ENOUGH)

    def decides(self, choice: Choice) -> bool:
        """Return whether a tensor need not be compared."""
        record = self._records[_kind(choice)]
        return _may_follow(choice[0]) and record.times >= ENOUGH

    def plan(self, choice: Choice) -> StoragePlan | None:
        """Return how to store a tensor for which ``decides`` is true; None to leave it as it is."""
        candidate, parents = choice
        record = self._records[_kind(choice)]
        if record.result is None or record.result == _STAY:
            return None
        parent = parents[record.result]
        hint = DeltaHint("delta", parent.digest, parent.spec)
        return StoragePlan(candidate, hint, round(record.share * candidate.spec.nbytes))


def _may_follow(candidate: Candidate) -> bool:
    return candidate.bundled or candidate.spec.nbytes <= LARGEST


def _kind(choice: Choice) -> Hashable:
    candidate, parents = choice
    # What is hashed of a spec names it, and takes less time to compare.
    specs = [parent.spec.hashed for parent in parents]
    return candidate.spec.hashed, tuple([parent.depth for parent in parents]), *specs
