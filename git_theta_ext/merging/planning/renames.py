"""Follow parameters that one side renamed, so that another side's change is merged under the new name.

A parameter counts as renamed if a side does not have its name, has its value under a new name, and no other pair of
names is possible. Equal values under several names (biases that are all zero) are distinguished by the numbers in their
names; ambiguous names are not followed. Values that are all 0 or all 1 are only followed together with another
parameter of their module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec

_NUMBER = re.compile(r"[0-9]+")
_BASE = -1
_ONES = {"F32": b"\0\0\x80\x3f", "F16": b"\0\x3c", "BF16": b"\x80\x3f", "F64": b"\0\0\0\0\0\0\xf0\x3f"}
_LARGEST_CONSTANT = 1 << 24


@dataclass(frozen=True)
class Followed:
    """The versions of a merge, with the names that the merged parameters will have.

    Attributes:
        base: The common ancestor.
        sides: All sides.
        moved: Indices of the sides whose layout has other names; -1 for the common ancestor.
        notes: Messages for the user.
    """

    base: Manifest | None
    sides: tuple[Manifest, ...]
    moved: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def follow_renames(base: Manifest | None, sides: Sequence[Manifest]) -> Followed:
    """Give parameters that another side changed the names that one side gave them.

    Args:
        base: The common ancestor, or None.
        sides: The versions that are merged.
    """
    unchanged = Followed(base, tuple(sides))
    if base is None:
        return unchanged
    renamed = [_renames(base, side) for side in sides]
    new_names: dict[str, str] = {}
    notes = []
    for number, renames in enumerate(renamed):
        others = [other for n, other in enumerate(zip(sides, renamed, strict=True)) if n != number]
        own = {old: new for old, new in renames.items() if _counts(base, others, old, new)}
        new_names |= own
        if own:
            names = shortlist((f"{old!r} to {new!r}" for old, new in own.items()), 1)
            notes.append(f"renamed by {side_names(len(sides))[number]}: {names}")
    if not new_names:
        return unchanged
    moved = {n for n, side in enumerate(sides) if not new_names.keys().isdisjoint(side.parameters)} | {_BASE}
    named = tuple(_renamed(side, new_names) for side in sides)
    return Followed(_renamed(base, new_names), named, frozenset(moved), tuple(notes))


def _counts(base: Manifest, others: Iterable[tuple[Manifest, Mapping[str, str]]], old: str, new: str) -> bool:
    """Return whether to use a side's new name: another side changed the value and does not use the name otherwise."""
    changed = False
    for side, renames in others:
        if renames.get(old, new) != new or (new in side.parameters and renames.get(old) != new):
            return False
        changed = changed or side.parameters.get(old, base.parameters[old]) != base.parameters[old]
    return changed


def _renamed(manifest: Manifest, names: Mapping[str, str]) -> Manifest:
    parameters = {names.get(name, name): parameter for name, parameter in manifest.parameters.items()}
    return replace(manifest, parameters=parameters)


def _renames(base: Manifest, side: Manifest) -> dict[str, str]:
    """Return old names and the new names that a side gave them."""
    groups: dict[tuple[Digest, tuple[str, ...]], tuple[list[str], list[str]]] = {}
    gone = [(0, name, p.digest) for name, p in base.parameters.items() if name not in side.parameters]
    added = [(1, name, p.digest) for name, p in side.parameters.items() if name not in base.parameters]
    by_digest: dict[Digest, list[set[str]]] = {}
    for place, name, digest in (*gone, *added):
        groups.setdefault((digest, tuple(_NUMBER.findall(name))), ([], []))[place].append(name)
        by_digest.setdefault(digest, [set(), set()])[place].add(name)
    renamed = {}
    for old_names, new_names in (*by_digest.values(), *groups.values()):
        if len(old_names) == len(new_names) == 1:
            (old,), (new,) = old_names, new_names
            renamed[old] = new
    plain = {old: new for old, new in renamed.items() if not _constant(base.parameters[old])}
    modules = {(_module(old), _module(new)) for old, new in plain.items()}
    return {old: new for old, new in renamed.items() if old in plain or (_module(old), _module(new)) in modules}


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _constant(parameter: Parameter) -> bool:
    """Return whether all values are 0 or all are 1, as in untrained biases and norms, which are all equal."""
    spec = parameter.spec
    return spec.nbytes <= _LARGEST_CONSTANT and parameter.digest in _constants(spec)


@lru_cache(maxsize=256)
def _constants(spec: TensorSpec) -> frozenset[Digest]:
    ones = _ONES.get(spec.dtype.name, b"\0") * spec.elements
    contents = [bytes(spec.nbytes), *([ones] if len(ones) == spec.nbytes else [])]
    return frozenset(tensor_digest(spec, content) for content in contents)
