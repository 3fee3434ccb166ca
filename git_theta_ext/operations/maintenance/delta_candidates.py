"""Find earlier tensors that a tensor may be stored as a delta of, by the names of parameters in history."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, islice
from typing import TYPE_CHECKING

from git_theta_ext.store.maintenance.cheapest import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.history.versions import Version

PARENTS = 8
"""The most earlier versions of a parameter that are looked at. What these are deltas of may become a parent, too."""


def candidates(history: Sequence[Version], wanted: Callable[[Digest], bool]) -> Iterator[list[Candidate]]:
    """Yield the wanted tensors that each version adds, with the parents that each may be stored as a delta of.

    Parents, the likeliest first, are:

    - the parameter's value in the versions that this one replaces;
    - earlier values at the same path;
    - values of the same name at other paths (renamed files, other shards);
    - for a new name, the parameter of equal shape whose name has the same end, or the one at the same position among
      the parameters of equal shape, or the only parameter in any file whose name has the same end and whose rows have
      the same length.

    Args:
        history: Versions, oldest first. A tensor that several versions have belongs to the first of them.
        wanted: Returns whether to yield a tensor. Parents are only searched for if it does.
    """
    seen: set[Digest] = set()
    at_path: dict[tuple[str, str], list[Parameter]] = defaultdict(list)
    anywhere: dict[str, list[Parameter]] = defaultdict(list)
    tails: dict[str, set[str]] = defaultdict(set)
    by_oid: dict[str, Manifest] = {}
    last: Manifest | None = None
    for version in history:
        manifest = version.manifest
        replaced = [by_oid[oid] for oid in version.previous if oid in by_oid]
        strangers = _renamed(manifest, replaced[0] if replaced else last, anywhere)
        group: list[Candidate] = []
        for name, parameter in manifest.parameters.items():
            if parameter.digest in seen:
                continue
            seen.add(parameter.digest)
            if not wanted(parameter.digest):
                continue
            likely = chain(
                (value for before in replaced if (value := before.parameters.get(name))),
                islice(reversed(at_path[version.path, name]), PARENTS),
                islice(reversed(anywhere[name]), PARENTS),
                strangers.get(name) or (anywhere[other][-1] for other in _alone(name, parameter, tails, anywhere)),
            )
            parents = _fitting(parameter, likely)
            group.append(Candidate(parameter.digest, parameter.spec, parents))
        for name, parameter in manifest.parameters.items():
            _append(at_path[version.path, name], parameter)
            if not anywhere[name]:
                tails[_tail(name)].add(name)
            _append(anywhere[name], parameter)
        by_oid[version.oid] = manifest
        last = manifest
        if group:
            yield group


def _append(values: list[Parameter], parameter: Parameter) -> None:
    if not values or values[-1].digest != parameter.digest:
        values.append(parameter)


def _fitting(parameter: Parameter, likely: Iterable[Parameter]) -> tuple[tuple[Digest, TensorSpec], ...]:
    parents: dict[Digest, TensorSpec] = {}
    digest, spec = parameter.digest, parameter.spec
    for other in likely:
        # Most specs are the same object. A long history has many pairs.
        if (other.spec is spec or _fits(spec, other.spec)) and other.digest != digest:
            parents[other.digest] = other.spec
            if len(parents) == PARENTS:
                break
    return tuple(parents.items())


def _fits(spec: TensorSpec, parent: TensorSpec) -> bool:
    """Return whether elements have the same positions: rows are equally long, and either tensor may have more rows."""
    return spec.dtype == parent.dtype and (spec.shape[1:] == parent.shape[1:] or spec.elements == parent.elements)


def _renamed(
    manifest: Manifest, before: Manifest | None, earlier: dict[str, list[Parameter]]
) -> dict[str, list[Parameter]]:
    """Return for each new name the parameter of the earlier version that was most likely renamed."""
    new = _by_spec((name, parameter) for name, parameter in manifest.parameters.items() if not earlier.get(name))
    if before is None or not new:
        return {}
    old = _by_spec((name, parameter) for name, parameter in before.parameters.items() if parameter.spec in new)
    parents: dict[str, list[Parameter]] = {}
    for spec, names in new.items():
        tails = {_tail(name): name for name in old[spec]}
        for position, name in enumerate(names):
            same = tails.get(_tail(name)) if len(tails) == len(old[spec]) else None
            if same is None and len(names) == len(old[spec]):
                same = old[spec][position]
            if same is not None:
                parents[name] = [before.parameters[same]]
    return parents


def _alone(
    name: str, parameter: Parameter, tails: Mapping[str, set[str]], earlier: Mapping[str, list[Parameter]]
) -> list[str]:
    """Return the earlier name that a new one most likely replaces, if exactly one has the same end and fits."""
    if earlier.get(name):
        return []
    fitting = [other for other in tails.get(_tail(name), ()) if _fits(parameter.spec, earlier[other][-1].spec)]
    return fitting if len(fitting) == 1 else []


def _by_spec(parameters: Iterable[tuple[str, Parameter]]) -> dict[TensorSpec, list[str]]:
    names: dict[TensorSpec, list[str]] = defaultdict(list)
    for name, parameter in parameters:
        names[parameter.spec].append(name)
    return names


def _tail(name: str) -> str:
    """Return a name from its first number on. This part stays the same if the model is wrapped in another module."""
    parts = name.split(".")
    numbered = next((at for at, part in enumerate(parts) if part.isdigit()), max(0, len(parts) - 2))
    return ".".join(parts[numbered:])
