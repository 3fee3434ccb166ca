"""The result of ``git theta fsck --repair`` as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.words import count_tensors, plural
from git_theta_ext.store.maintenance.fsck import NAMED
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.repair import Repair, RepairPlan

    Place = tuple[str, str]
    """The name of a manifest, and that of a parameter in it."""


def plan_json(plan: RepairPlan) -> dict[str, Any]:
    """Return what a repair would do, as JSON."""
    return {"packs": list(plan.packs), "broken": sorted(plan.broken), "fetchable": sorted(plan.fetchable)}


def plan_lines(plan: RepairPlan, manifests: Iterable[Manifest]) -> Iterator[str]:
    """Describe what a repair would do, given the manifests whose tensors it repairs."""
    if plan.packs:
        yield f"would move {plural(len(plan.packs), 'damaged pack')} to quarantine"
    if plan.broken:
        skeletons = {manifest.skeleton.digest for manifest in manifests}
        missing = count_tensors(plan.broken, skeletons)
        yield f"damaged or missing: {missing}; would fetch {count_tensors(plan.fetchable, skeletons)}"
    if not plan.packs and not plan.broken:
        yield "nothing to repair"


def names_of(manifests: Mapping[str, Manifest], digests: AbstractSet[Digest]) -> dict[Digest, list[Place]]:
    """Return the parameters with certain digests, each with the name of its manifest."""
    names: dict[Digest, list[Place]] = {digest: [] for digest in digests}
    for place, manifest in manifests.items():
        named = [("the skeleton", manifest.skeleton.digest)]
        named += [(name, parameter.digest) for name, parameter in manifest.parameters.items()]
        for name, digest in named:
            if digest in names:
                names[digest].append((place, name))
    return names


def done_json(done: Repair, names: Mapping[Digest, Sequence[Place]]) -> dict[str, Any]:
    """Return what a repair did, as JSON."""
    parameters = {digest: [f"{place}: {name}" for place, name in those] for digest, those in names.items()}
    digests = {"fetched": done.fetched, "saved": done.saved, "lost": done.lost}
    data: dict[str, Any] = {kind: sorted(those) for kind, those in digests.items()}
    return data | {
        "mended": [
            {"digest": digest, "from": source, "parameters": parameters[digest]}
            for digest, source in sorted(done.sources.items())
        ],
        "lost_parameters": {digest: parameters[digest] for digest in sorted(done.lost)},
        "removed": list(done.removed),
        "quarantined": list(done.quarantined),
        "put_back": list(done.put_back),
    }


def done_lines(store: Store, done: Repair, names: Mapping[Digest, Sequence[Place]]) -> Iterator[str]:
    """Describe what a repair did."""
    yield from _lines("repaired", {digest: f"from {source}" for digest, source in done.sources.items()}, names)
    yield from _lines("lost", dict.fromkeys(done.lost, "no good copy found"), names)
    if done.removed:
        yield f"removed {plural(len(done.removed), 'damaged pack')}"
    if done.quarantined:
        yield f"moved {plural(len(done.quarantined), 'damaged pack')} to {store.root / 'quarantine'}"
    if done.put_back:
        yield f"left {plural(len(done.put_back), 'damaged pack')} in place: no replacement found"


def _lines(verb: str, results: Mapping[Digest, str], names: Mapping[Digest, Sequence[Place]]) -> Iterator[str]:
    """Yield a line for the tensors of the same manifests with the same result."""
    together: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for digest, result in results.items():
        key = tuple(place for place, _ in names[digest]), result
        together.setdefault(key, []).extend(dict.fromkeys(name for _, name in names[digest]))
    for (places, result), found in sorted(together.items()):
        yield f"{verb} {shortlist(places, NAMED)}: {shortlist(sorted(found), NAMED)}: {result}"
