"""Find what new tensors may become deltas of, without reading all of history and looking up the whole store."""

from __future__ import annotations

from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.operations.history.versions import latest_versions, versions
from git_theta_ext.operations.maintenance.delta_candidates import PARENTS, candidates
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import MAX_CHAIN
from git_theta_ext.store.store import DEEPEST_HINT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.history.versions import Version
    from git_theta_ext.store.maintenance.cheapest import Candidate

_FEW = 1 << 12
"""Number of new tensors up to which only their possible parents are looked up, and not everything in the store."""

_LATEST = (1 << 7, 1 << 10)
"""Numbers of commits to read before all of history is."""


def relatives(
    repo: Repository, digests: AbstractSet[Digest], read: Mapping[str, Manifest] = MappingProxyType({})
) -> list[Version]:
    """Return the versions that have some tensors, and earlier ones that have all parents that are looked at.

    If the tensors are few, only the latest commits are read, as long as these have enough parents. If there is a single
    version, nothing is returned.

    Args:
        repo: The repository.
        digests: Digests of the tensors.
        read: Manifests that were read already, by object id.
    """
    for commits in _LATEST if len(digests) <= _FEW else ():
        history, all_of_them = latest_versions(repo, commits, least=2, read=read)
        if all_of_them or _have_parents(history, digests):
            return history
    return versions(repo, least=2, read=read)


def _have_parents(history: Sequence[Version], digests: AbstractSet[Digest]) -> bool:
    """Return whether earlier versions would add no parents of some tensors."""
    named = set(chain.from_iterable(version.manifest.named for version in history))
    groups = candidates(history, digests)
    return digests <= named and all(len(one.parents) == PARENTS for one in chain.from_iterable(groups))


@dataclass(frozen=True)
class Few:
    """New tensors, if they are few.

    Attributes:
        groups: The tensors with their possible parents; see ``candidates``.
        related: The tensors and all of these parents.
    """

    groups: Sequence[Sequence[Candidate]]
    related: AbstractSet[Digest]


def few_of(history: Sequence[Version], digests: AbstractSet[Digest], depth: int) -> Few | None:
    """Return some tensors with all that they may become deltas of; None if they are many."""
    # Chains above the tensors, such as those of updates on other branches, are not looked for.
    if len(digests) > _FEW or depth + DEEPEST_HINT > MAX_CHAIN:
        return None
    groups = [[*group] for group in candidates(history, digests)]
    parents = {parent for candidate in chain.from_iterable(groups) for parent, _ in candidate.parents}
    return Few(groups, digests | parents)


def wanted_of(
    history: Sequence[Version], few: Few | None, wanted: AbstractSet[Digest]
) -> Iterator[Sequence[Candidate]]:
    """Yield the wanted tensors that each version adds, with their possible parents."""
    if few is None:
        yield from candidates(history, wanted)
        return
    for group in few.groups:
        if some := [candidate for candidate in group if candidate.digest in wanted]:
            yield some
