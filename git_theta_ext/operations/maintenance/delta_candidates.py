"""Find earlier tensors that a tensor may be stored as a delta of, by the names of parameters in history."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, overload

from git_theta_ext.operations.maintenance.earlier_columns import EarlierColumns, distinct
from git_theta_ext.store.maintenance.added import AddedTensors
from git_theta_ext.store.maintenance.cheapest import Candidate

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.history.versions import Version

PARENTS = 8
"""The most earlier versions of a parameter that are looked at. What these are deltas of may become a parent, too."""


def candidates(history: Sequence[Version], wanted: AbstractSet[Digest]) -> Iterator[AddedTensors]:
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
        wanted: Digests of the tensors to yield. Parents are only searched for these.
    """
    left = set(wanted)
    earlier = _Earlier()
    for version in history:
        if chosen := left.intersection(version.manifest.columns.digests):
            left -= chosen
            yield _Added(version, chosen, earlier)
        earlier.add(version)


class _Added(AddedTensors):
    """See ``candidates``.

    Args:
        version: The version that adds the tensors.
        chosen: Digests of the tensors.
        earlier: What earlier versions have.
    """

    def __init__(self, version: Version, chosen: set[Digest], earlier: _Earlier) -> None:
        self._version = version
        self._chosen = chosen
        self._earlier = earlier
        self._all: list[Candidate] | None = None

    @cached_property
    def digests(self) -> Sequence[Digest]:
        """See ``AddedTensors``."""
        every = self._version.manifest.columns.digests
        if len(every) == len(self._chosen):  # as in most versions
            return every
        return [digest for digest in dict.fromkeys(every) if digest in self._chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...

    @overload
    def __getitem__(self, at: slice) -> list[Candidate]: ...

    def __getitem__(self, at: int | slice) -> Candidate | list[Candidate]:
        return self._every()[at]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._every())

    def _every(self) -> list[Candidate]:
        if self._all is None:
            self._all = self.among(self._chosen)
        return self._all

    def among(self, digests: Container[Digest]) -> list[Candidate]:
        """See ``AddedTensors``."""
        return self._earlier.candidates(self._version, {digest for digest in self._chosen if digest in digests})

    def parents_of(self, digests: Sequence[Digest]) -> list[list[Digest]] | None:
        """See ``AddedTensors``."""
        if self._before is None:
            return None
        versions, more = self._before
        places = list(map(self._places.__getitem__, digests)) if versions else []
        found = distinct(digests, places, versions, PARENTS)
        return None if found is not None and more and len(found) < PARENTS else found

    @cached_property
    def _before(self) -> tuple[list[Sequence[Digest]], bool] | None:
        return self._earlier.columns_before(self._version)

    @cached_property
    def _places(self) -> dict[Digest, int]:
        columns = self._version.manifest.columns
        # Of several names with a value the first counts.
        return dict(zip(reversed(columns.digests), reversed(range(len(columns))), strict=True))


class _Earlier:
    """What versions have that come before another one."""

    def __init__(self) -> None:
        self._columns = EarlierColumns()
        self._at_paths: dict[str, dict[str, list[Parameter]]] = defaultdict(dict)
        self._anywhere: dict[str, list[Parameter]] = {}
        self._alone = _Alone(self._anywhere)
        self._by_oid: dict[str, Manifest] = {}
        self._last: Manifest | None = None
        self._waiting: list[Version] = []

    def add(self, version: Version) -> None:
        """Add the next version."""
        self._columns.add(version.path, version.manifest.columns)
        self._by_oid[version.oid] = self._last = version.manifest
        self._waiting.append(version)

    def _replaced(self, version: Version) -> list[Manifest]:
        return [self._by_oid[oid] for oid in version.previous if oid in self._by_oid]

    def columns_before(self, version: Version) -> tuple[list[Sequence[Digest]], bool] | None:
        """Return the digests of earlier versions; see ``EarlierColumns.before``."""
        replaced = (manifest.columns for manifest in self._replaced(version))
        return self._columns.before(version.path, version.manifest.columns, replaced)

    def _read(self) -> None:
        """List the values of each name, which is only needed if tensors do not change together."""
        for version in self._waiting:
            at_path = self._at_paths[version.path]
            for name, parameter in version.manifest.parameters.items():
                _append(at_path, name, parameter)
                _append(self._anywhere, name, parameter)
        self._waiting = []

    def candidates(self, version: Version, wanted: Container[Digest]) -> list[Candidate]:
        """Return some of the tensors of the next version with their possible parents."""
        self._read()
        manifest, at_path, anywhere = version.manifest, self._at_paths[version.path], self._anywhere
        replaced = self._replaced(version)
        strangers = _renamed(manifest, replaced[0] if replaced else self._last, anywhere)
        others = [before.parameters for before in replaced]
        group: dict[Digest, Candidate] = {}
        for name, parameter in manifest.parameters.items():
            if parameter.digest in group or parameter.digest not in wanted:
                continue
            likely: Iterable[Parameter]
            if (known := anywhere.get(name)) is not None:
                likely = _earlier([value for before in others if (value := before.get(name))], at_path.get(name), known)
            elif anywhere:
                likely = strangers.get(name) or self._alone.of(name, parameter)
            else:
                likely = ()
            group[parameter.digest] = Candidate(parameter.digest, parameter.spec, _fitting(parameter, likely))
        return [*group.values()]


def _earlier(replaced: list[Parameter], here: list[Parameter] | None, known: list[Parameter]) -> list[Parameter]:
    """Return what a value replaces, then the latest values of the name at the path, then those at any path."""
    if here is None:
        return [*replaced, *known[: -PARENTS - 1 : -1]]
    if len(replaced) == 1 and replaced[0] is here[-1]:  # as for most
        replaced = []
    if len(here) == len(known):
        return [*replaced, *here[: -PARENTS - 1 : -1]]
    return [*replaced, *here[: -PARENTS - 1 : -1], *known[: -PARENTS - 1 : -1]]


def _append(values: dict[str, list[Parameter]], name: str, parameter: Parameter) -> None:
    held = values.get(name)
    if held is None:
        values[name] = [parameter]
    elif held[-1].digest != parameter.digest:
        held.append(parameter)


def _fitting(parameter: Parameter, likely: Iterable[Parameter]) -> tuple[tuple[Digest, TensorSpec], ...]:
    spec = parameter.spec
    # Most specs are the same object. A long history has many pairs.
    parents = {other.digest: other.spec for other in likely if other.spec is spec or _fits(spec, other.spec)}
    parents.pop(parameter.digest, None)
    return tuple(islice(parents.items(), PARENTS))


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


class _Alone:
    """Finds the parameter that a new name most likely replaces.

    Args:
        earlier: The values of each name in earlier versions, to which others are added.
    """

    def __init__(self, earlier: Mapping[str, list[Parameter]]) -> None:
        self._earlier = earlier
        self._tails: dict[str, list[str]] = defaultdict(list)
        self._read = 0

    def of(self, name: str, parameter: Parameter) -> list[Parameter]:
        """Return the parameter of any file that has the same end of its name and fits, if exactly one does."""
        for other in islice(self._earlier, self._read, None):  # few models have names that are new later
            self._tails[_tail(other)].append(other)
        self._read = len(self._earlier)
        values = [self._earlier[other][-1] for other in self._tails.get(_tail(name), ())]
        fitting = [value for value in values if _fits(parameter.spec, value.spec)]
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
