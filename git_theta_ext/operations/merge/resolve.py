"""Resolve the conflicts that a merge left in a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.operations.merge.chosen_conflicts import check_whole, chosen_conflicts, sides_of
from git_theta_ext.operations.merge.conflict_values import resolved_values
from git_theta_ext.operations.merge.conflicted_files import together, with_values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.store import Store


def resolve(  # noqa: PLR0913 - named, and the last two have defaults
    manifest: Manifest,
    store: Store,
    choice: Choice,
    patterns: Sequence[str] = (),
    start: Callable[[], Engine] | None = None,
    *,
    scaled: Callable[[Plan], Plan] = lambda plan: plan,
    leave: Collection[str] = (),
) -> Manifest:
    """Resolve conflicts of a checkpoint; see ``resolve_together``."""
    (resolved,) = resolve_together([manifest], store, choice, patterns, start, scaled=scaled, leave=leave)
    return resolved


def resolve_together(  # noqa: PLR0913 - named, and the last two have defaults
    manifests: Sequence[Manifest],
    store: Store,
    choice: Choice,
    patterns: Sequence[str] = (),
    start: Callable[[], Engine] | None = None,
    *,
    scaled: Callable[[Plan], Plan] = lambda plan: plan,
    leave: Collection[str] = (),
) -> list[Manifest]:
    """Resolve conflicts of the files of a model by taking a side or by a merge method.

    Thresholds and units are those of all files. Taking a side that lacks the parameter deletes it. A conflict that the
    method cannot resolve stays, unless a pattern names it. Taking a side without patterns also resolves the layout.
    Otherwise the layout is resolved as soon as no parameter is in conflict and exactly one layout fits.

    Args:
        manifests: Manifests with conflicts.
        store: The store with the values; computed values are written to it.
        choice: The side or method.
        patterns: Names or globs (``*``, ``?``, ``[…]``) of parameters, or names of units; empty for all.
        start: Makes the engine that computes; by default one on the CPU.
        scaled: Scales LoRAs by the configuration of their adapter.
        leave: Parameters that are left in conflict as if their values could not be read.

    Returns:
        The manifests with the conflicts that remain.

    Raises:
        UsageError: A pattern matches no conflict, or the method is ``conflict``.
        MergeError: No conflict could be resolved, or one that a pattern names could not.
        MissingError: A layout is not in the store.
        CorruptError: A layout in the store is damaged.
    """
    if choice.method == "conflict":
        raise UsageError("the method 'conflict' resolves nothing", hint="git theta resolve --method=ours")
    whole = together(manifests)
    chosen = [conflict for conflict in chosen_conflicts(whole, patterns) if conflict.name not in leave]
    for manifest in manifests:
        check_whole(manifest, choice.method, patterns)
    values, failed = resolved_values(whole, chosen, choice, store, start, scaled)
    if failed and patterns:
        raise next(iter(failed.values()))
    results = [with_values(manifest, values, store, None if patterns else choice.method) for manifest in manifests]
    if results == list(manifests):
        first = next(iter(failed.values()), None)
        raise first or MergeError(
            f"method {choice.method!r} resolves none of the conflicts",
            hint="git theta resolve --method ours, theirs or base",
        )
    return results


def skeletons_to_read(manifest: Manifest) -> Iterator[Digest]:
    """Yield the digest of every skeleton that resolving a manifest's conflicts may read."""
    yield manifest.skeleton.digest
    layout = manifest.layout_conflict
    if layout is not None:
        yield from (skeleton.digest for skeleton in layout.candidates.values() if skeleton is not None)


def values_to_read(manifest: Manifest, method: str, leave: Collection[str] = ()) -> Iterator[Digest]:
    """Yield the digest of every tensor that resolving a manifest's conflicts may read: none if a side is taken.

    Args:
        manifest: A manifest with conflicts.
        method: The side or method.
        leave: Parameters that are left in conflict.
    """
    if method not in sides_of(manifest):
        for conflict in manifest.conflicts:
            if conflict.name not in leave:
                yield from (side.digest for side in conflict.candidates.values() if side is not None)
