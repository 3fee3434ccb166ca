"""Which earlier tensors a tensor may be held as a difference from, by what history says of their names."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, islice
from typing import TYPE_CHECKING

from git_theta_ext.store.maintenance.recode import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.history.versions import Version

_PARENTS = 32
"""The most earlier versions of a parameter that are looked at."""


def candidates(history: Sequence[Version], wanted: Callable[[Digest], bool]) -> Iterator[list[Candidate]]:
    """Yield what each version brought that no earlier one had and that is wanted, with what it may start from.

    A parent is, the likeliest first: the parameter's value in the versions that this one replaced, earlier values at
    the same path, values of that name at other paths (renamed files, other shards), and where the name is new, the
    parameter of equal shape that has the end of its name, or its place among those of equal shape, or else the only one
    in whatever file that has the end of its name and rows of the same length.

    Args:
        history: Oldest first. A tensor that came up in two places counts for the first.
        wanted: Tells of a digest whether it is to be yielded: parents are looked for only then.
    """
    known: set[Digest] = set()
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
            if parameter.digest in known:
                continue
            known.add(parameter.digest)
            if not wanted(parameter.digest):
                continue
            likely = chain(
                (found for before in replaced if (found := before.parameters.get(name))),
                islice(reversed(at_path[version.path, name]), _PARENTS),
                islice(reversed(anywhere[name]), _PARENTS),
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
    found: dict[Digest, TensorSpec] = {}
    for other in likely:
        if other.digest != parameter.digest and _fits(parameter.spec, other.spec):
            found.setdefault(other.digest, other.spec)
            if len(found) == _PARENTS:
                break
    return tuple(found.items())


def _fits(spec: TensorSpec, parent: TensorSpec) -> bool:
    """Tell whether elements lie at the same places: the same rows, of which one of the two may have more."""
    # Mostly they are one and the same object, which is quickly seen: a long history has many pairs.
    if spec is parent:
        return True
    return spec.dtype == parent.dtype and (spec.shape[1:] == parent.shape[1:] or spec.elements == parent.elements)


def _renamed(
    manifest: Manifest, before: Manifest | None, known: dict[str, list[Parameter]]
) -> dict[str, list[Parameter]]:
    """Return for each name that is new the parameter of an earlier version that it most likely was."""
    new = _by_spec((name, parameter) for name, parameter in manifest.parameters.items() if not known.get(name))
    if before is None or not new:
        return {}
    old = _by_spec((name, parameter) for name, parameter in before.parameters.items() if parameter.spec in new)
    found: dict[str, list[Parameter]] = {}
    for spec, names in new.items():
        tails = {_tail(name): name for name in old[spec]}
        for place, name in enumerate(names):
            same = tails.get(_tail(name)) if len(tails) == len(old[spec]) else None
            if same is None and len(names) == len(old[spec]):
                same = old[spec][place]
            if same is not None:
                found[name] = [before.parameters[same]]
    return found


def _alone(
    name: str, parameter: Parameter, tails: Mapping[str, set[str]], known: Mapping[str, list[Parameter]]
) -> list[str]:
    """Return the name that a new one most likely replaced, where only one has its end and fits."""
    if known.get(name):
        return []
    fitting = [other for other in tails.get(_tail(name), ()) if _fits(parameter.spec, known[other][-1].spec)]
    return fitting if len(fitting) == 1 else []


def _by_spec(parameters: Iterable[tuple[str, Parameter]]) -> dict[TensorSpec, list[str]]:
    names: dict[TensorSpec, list[str]] = defaultdict(list)
    for name, parameter in parameters:
        names[parameter.spec].append(name)
    return names


def _tail(name: str) -> str:
    """Return a name from its first number on: what a model calls its inside, however it is wrapped."""
    parts = name.split(".")
    numbered = next((at for at, part in enumerate(parts) if part.isdigit()), max(0, len(parts) - 2))
    return ".".join(parts[numbered:])
