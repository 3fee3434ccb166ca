"""Settle what a merge left undecided in a manifest."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, PluginError, UsageError
from git_theta_ext.git.fetch import ensure_digests
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.merge.apply import apply, compose, compute
from git_theta_ext.merge.plan import FORMATS_DIFFER, SIDES, WHOLE_FILE, Decision, obstacle, plan
from git_theta_ext.model.layout import Layout
from git_theta_ext.model.tensor import skeleton_spec
from git_theta_ext.registry import find_merge
from git_theta_ext.store.batches import Batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merge.plan import Side
    from git_theta_ext.model.manifest import Conflict, LayoutConflict, Manifest, Parameter, Skeleton
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.blobs import Store


def resolve(manifest: Manifest, store: Store, method: str, patterns: Sequence[str] = ()) -> Manifest:
    """Settle conflicts by a side or by a merge method.

    A side that does not have the parameter removes it. Where a method cannot settle a conflict that no pattern asks
    for, that conflict stays. The file's layout is settled by a side when no patterns are given, and by itself as soon
    as no parameter is in conflict and one layout fits.

    Args:
        manifest: With conflicts.
        store: Holds the values; what a method computes goes into it.
        method: ``ours``, ``theirs``, ``base`` or the name of a merge method.
        patterns: Names or globs (``*``, ``?``, ``[…]``) of parameters; all where there are none.

    Returns:
        A manifest with the conflicts that remain.

    Raises:
        UsageError: A pattern matches no conflict, or ``conflict`` is asked for.
        MergeError: Nothing could be settled, or a conflict that a pattern asks for could not.
        PluginError: There is no such method.
        MissingError: Values are not in the store.
        CorruptError: Values in the store are damaged.
    """
    if method == "conflict":
        raise UsageError("'conflict' settles nothing", hint="git theta resolve --method=ours")
    chosen = _chosen(manifest, patterns)
    _check_whole(manifest, method, patterns)
    parameters = dict(manifest.parameters)
    remaining = [conflict for conflict in manifest.conflicts if conflict not in chosen]
    results = Batches(store)
    first: MergeError | None = None
    for conflict in chosen:
        try:
            value = _value(conflict, method, store, results)
        except MergeError as error:
            if patterns:
                raise
            first = first or error
            remaining.append(conflict)
            continue
        if value is None:
            parameters.pop(conflict.name, None)
        else:
            parameters[conflict.name] = value
    results.flush()
    settled = replace(manifest, parameters=parameters, conflicts=tuple(remaining))
    if not remaining:
        settled = _settle_layout(settled, store, SIDES.get(method) if not patterns else None)
    if settled == manifest:
        raise first or MergeError(f"method {method!r} settles none of the conflicts", hint="use ours, theirs or base")
    return settled


def undecided(repo: Repository, store: Store, path: str) -> Manifest | None:
    """Read from the index what a merge that did not run our driver left undecided.

    Args:
        repo: The repository.
        store: Its store.
        path: Below the top of the work tree.

    Returns:
        A manifest with a conflict for each parameter that both sides changed, or None where the index has no two
        versions to choose from.

    Raises:
        ManifestError: A version is a broken manifest.
        MissingError: The layout of a version is not in the store, or on no remote.
    """
    stages = {entry.stage: entry.oid for entry in repo.entries(None) if entry.path == path and entry.stage}
    found = read_manifests(repo, dict.fromkeys(stages.values(), path))
    sides = [found.get(stages.get(stage, "")) for stage in (1, 2, 3)]
    if sides[1] is None or sides[2] is None:
        return None
    planned = plan(sides[0], sides[1], sides[2], "conflict")
    ensure_digests(repo, store, planned.reads())
    return apply(planned, store).manifest


def candidates(manifest: Manifest) -> Iterator[Digest]:
    """Yield the digest of every tensor and skeleton that settling a manifest's conflicts may read."""
    yield manifest.skeleton.digest
    layout = manifest.layout_conflict
    if layout is not None:
        yield from (side.digest for side in (layout.base, layout.ours, layout.theirs) if side is not None)
    for conflict in manifest.conflicts:
        sides = (conflict.base, conflict.ours, conflict.theirs)
        yield from (side.digest for side in sides if side is not None)


def _chosen(manifest: Manifest, patterns: Sequence[str]) -> list[Conflict]:
    found: dict[str, Conflict] = {}
    for pattern in patterns:
        matching = [c for c in manifest.conflicts if c.name == pattern or fnmatchcase(c.name, pattern)]
        if not matching:
            raise UsageError(
                f"no parameter in conflict matches {pattern!r}", hint="git theta resolve PATH lists the conflicts"
            )
        found.update({conflict.name: conflict for conflict in matching})
    return list(found.values()) if patterns else list(manifest.conflicts)


def _check_whole(manifest: Manifest, method: str, patterns: Sequence[str]) -> None:
    reasons = {conflict.reason for conflict in manifest.conflicts}
    if manifest.layout_conflict is not None:
        reasons.add(manifest.layout_conflict.reason)
    if FORMATS_DIFFER in reasons and method != "ours":
        raise MergeError(FORMATS_DIFFER, hint=f"git checkout --{method} PATH takes the other file as it is")
    if WHOLE_FILE in reasons and (patterns or method not in SIDES):
        raise MergeError(WHOLE_FILE, hint="git theta resolve with ours, theirs or base, and without names")


def _value(conflict: Conflict, method: str, store: Store, results: Batches) -> Parameter | None:
    side = SIDES.get(method)
    if side is not None:
        return {"base": conflict.base, "ours": conflict.ours, "theirs": conflict.theirs}[side]
    try:
        found = find_merge(method)
    except PluginError as error:
        raise PluginError(error.message, hint=f"ours, theirs and base always work; {error.hint}") from error
    sides = (conflict.base, conflict.ours, conflict.theirs)
    reason = obstacle(sides, found.contract)
    if reason is not None or conflict.ours is None:
        raise _unsettled(conflict, reason or conflict.reason)
    decision = Decision(conflict.name, conflict.reason, "compute", None, *sides)
    try:
        data = compute(decision, found, store)
    except MergeError as error:
        raise _unsettled(conflict, error.message) from error
    return results.add(conflict.ours.spec, data)


def _unsettled(conflict: Conflict, reason: str) -> MergeError:
    return MergeError(f"parameter {conflict.name!r}: {reason}", hint="settle it by ours, theirs or base")


def _settle_layout(manifest: Manifest, store: Store, side: Side | None) -> Manifest:
    specs = {name: parameter.spec for name, parameter in manifest.parameters.items()}
    conflict = manifest.layout_conflict
    layouts = [manifest.skeleton] if conflict is None else _layouts(conflict, side)
    fitting = [skeleton for skeleton in dict.fromkeys(layouts) if _parameters(skeleton, store) == specs]
    if len(fitting) == 1 or (fitting and side is not None):
        return replace(manifest, skeleton=fitting[0], layout_conflict=None)
    if fitting:
        return manifest
    composed = compose(manifest.format, manifest.skeleton, specs, store)
    if composed is None:
        raise MergeError(
            f"no {manifest.format} file can hold this choice of parameters",
            hint="settle all conflicts by the same side: git theta resolve --method=ours PATH",
        )
    return replace(manifest, skeleton=composed, layout_conflict=None)


def _layouts(conflict: LayoutConflict, side: Side | None) -> list[Skeleton]:
    known = {"base": conflict.base, "ours": conflict.ours, "theirs": conflict.theirs}
    preferred = [] if side is None else [known[side]]
    return [skeleton for skeleton in (*preferred, *known.values()) if skeleton is not None]


def _parameters(skeleton: Skeleton, store: Store) -> dict[str, TensorSpec]:
    return Layout.from_skeleton(store.read(skeleton.digest, skeleton_spec(skeleton.nbytes))).parameters
