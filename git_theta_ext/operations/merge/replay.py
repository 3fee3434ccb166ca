"""Do again what a merge commit says was done to its checkpoints, and compare the bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.git.merge_tree import common_ancestor
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.record import versions_of
from git_theta_ext.merging.reporting.report import rows, several
from git_theta_ext.operations.merge.adapter_configs import config_in_commit, scales_to_resolve, with_adapter_scales
from git_theta_ext.operations.merge.driver import read_version
from git_theta_ext.operations.merge.record import records_of
from git_theta_ext.operations.merge.resolve import candidates, resolve
from git_theta_ext.operations.merge.run import bytes_to_compute, engine, planned, statistics_for
from git_theta_ext.operations.merge.trailers import are_merged, parents_of
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.operations.workspace import open_store
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.record import Record
    from git_theta_ext.merging.reporting.report import Row
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.merge.driver import Show
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class Again:
    """A merge that is known from its record.

    Attributes:
        commit: Its id.
        record: What it says of a checkpoint.
        plan: What that means.
        committed: The version that the commit has.
    """

    commit: str
    record: Record
    plan: Plan
    committed: Manifest


@dataclass(frozen=True)
class Replayed:
    """What came of doing a merge again.

    Attributes:
        path: Of the checkpoint.
        computed: Number of parameters that were computed.
        differing: Parameters that are not what was committed; ``None`` stands for the file's layout.
        inexact: Methods that computed some of them and do not promise the same bits on every machine.
    """

    path: str
    computed: int
    differing: tuple[str | None, ...]
    inexact: tuple[str, ...]


def recorded(repo: Repository, commit: str) -> list[Again]:
    """Return the merges of checkpoints that a commit tells of.

    Raises:
        RepositoryError: There is no such commit.
        MergeError: It tells of none, or what it tells of is not here, or another version of a method is installed.
        PluginError: A method is not installed.
    """
    records = records_of(repo, commit)
    if not records:
        raise MergeError(
            f"{commit} does not say how models were merged",
            hint="merges do where the hook prepare-commit-msg is in place (git theta install) and a rule decided",
        )
    oid = repo.run("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode().strip()
    committed = repo.manifests(oid)
    parents = parents_of(repo, oid)
    found, store = [], open_store(repo)
    for record in records:
        if record.path not in committed:
            raise MergeError(f"{commit} has no checkpoint {record.path}, though it says how that was merged")
        if not are_merged(repo, record.commits, parents):
            raise MergeError(
                f"{commit} has a copy of another merge's record: {record.path} was merged there from"
                f" {' and '.join(each[:12] for each in record.commits)}, which are no parents of {commit}",
                hint="git commit --amend removes it from the current commit",
            )
        _check_versions(record)
        known = _manifests(repo, record)
        base = None if record.base is None else _version(known, record.base, record.path, undecided=True)
        sides = [_version(known, side, record.path) for side in record.sides]
        found.append(Again(oid, record, planned(repo, store, base, sides, record.rules), committed[record.path][1]))
    return found


def replay(repo: Repository, store: Store, again: Again, show: Show) -> Replayed:
    """Merge a checkpoint once more, and compare it with what was committed.

    Args:
        repo: The repository.
        store: Its store; what is computed goes into it.
        again: The merge.
        show: Shows how far the computation is.

    Raises:
        ThetaError: As ``git_theta_ext.merging.apply.apply``, or a resolution does not work any more.
    """
    record, asked = again.record, again.plan
    ensure_digests(repo, store, set(asked.reads()))
    asked = with_adapter_scales(repo, store, asked, record.path, record.commits)
    statistics, _ = statistics_for(repo, store, asked, record.path, record.commits)
    with show(f"merging {record.path}", bytes_to_compute(asked)) as advance:
        outcome = apply(asked, store, lambda: engine(repo, store, statistics=statistics, advance=advance))
    manifest = outcome.manifest
    config = config_in_commit(repo, record.path, again.commit)
    scaled = scales_to_resolve(repo, store, record.path, record.commits, config)
    for step in record.steps:
        ensure_digests(repo, store, candidates(manifest))
        manifest = resolve(
            manifest, store, step.rules.defaults, step.patterns, lambda: engine(repo, store), scaled=scaled
        )
    inexact = tuple(name for name in record.versions if not find_merge(name).contract.exact)
    computed = sum(outcome.computed.values()) + len(outcome.manifest.conflicts) - len(manifest.conflicts)
    return Replayed(record.path, computed, _differing(manifest, again.committed), inexact)


def measured(repo: Repository, store: Store, again: Again, advance: Callable[[int], None]) -> list[Row]:
    """Measure what a merge did to the parameters that several sides changed.

    Args:
        repo: The repository.
        store: Its store.
        again: The merge.
        advance: Told the number of bytes of each parameter that is done.

    Raises:
        MissingError: Values are neither here nor on a remote.
        CorruptError: Values in the store are damaged.
    """
    asked = again.plan
    kept = [d for d in asked.decisions if d.action == "take" and d.source is not None and not again.record.steps]
    if other := [d.name for d in kept if again.committed.parameters.get(d.name) != d.value]:
        raise MergeError(
            f"{again.record.path}: {other[0]!r} in {again.commit[:12]} is not what its record says",
            hint=f"git theta merge --replay {again.commit[:12]}",
        )
    changed = [decision for decision in asked.decisions if several(decision)]
    values = [value for d in changed for value in (d.base, *d.sides, again.committed.parameters.get(d.name))]
    digests = {value.digest for value in values if value is not None}
    ensure_digests(repo, store, digests | set(asked.reads()))
    worker = engine(repo, store)
    found = []
    for row in rows(store, worker.device, asked, again.committed, worker.thresholds(asked)):
        found.append(row)
        advance(row.spec.nbytes)
    return found


def _differing(one: Manifest, other: Manifest) -> tuple[str | None, ...]:
    names = sorted({*one.parameters, *other.parameters})
    found = [name for name in names if one.parameters.get(name) != other.parameters.get(name)]
    return (*found, *([None] if one.skeleton != other.skeleton or one.conflicted != other.conflicted else []))


def _check_versions(record: Record) -> None:
    here = versions_of(record.versions)
    for name, version in record.versions.items():
        if here.get(name) != version:
            raise MergeError(
                f"{record.path} was merged by version {version} of {name!r}, and here is version {here.get(name)}",
                hint=f"git-theta {record.tool} merged it",
            )


def _manifests(repo: Repository, record: Record) -> Mapping[str, bytes]:
    """Return the contents of the merged manifests; a common ancestor of git's own making is made again."""
    wanted = {*record.sides, *([] if record.base is None else [record.base])}
    infos = object_infos(repo, wanted)
    if record.base is not None and record.base not in infos:
        bases = repo.run("merge-base", "--octopus", "--all", *record.commits, check=False).decode().split()
        for order in (bases, bases[::-1]):  # ours of several branches, and that of git's own strategies
            common_ancestor(repo, order)
        infos = object_infos(repo, wanted)
    return dict(manifest_blobs(repo, infos))


def _version(known: Mapping[str, bytes], oid: str, path: str, *, undecided: bool = False) -> Manifest:
    if oid not in known:
        raise MergeError(f"{path}: version {oid[:12]}, which was merged, is not here", hint="git fetch --unshallow")
    return read_version(known[oid], f"{path}: version {oid[:12]}", undecided=undecided)
