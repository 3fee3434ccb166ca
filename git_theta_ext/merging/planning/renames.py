"""Follow parameters that one side renamed, so that another side's change is merged under the new name.

A parameter counts as renamed if a side does not have its name, has its value under a new name, and no other pair of
names is possible, or if its module was renamed and this pair of names is in it. Equal values under several names
(biases that are all zero) are distinguished by the numbers in their names; ambiguous names are not followed. Values
that are all 0 or all 1 are only followed together with another parameter of their module.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.records import dataclass, replace
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
        possible = {old: new for old, new in renames.items() if _possible(others, old, new)}
        # All parameters of a module follow, so that the parts of a quantised weight stay together.
        modules = {_modules(old, new) for old, new in possible.items() if _changed(base, others, old)}
        own = {old: new for old, new in possible.items() if _modules(old, new) in modules}
        new_names |= own
        if own:
            names = shortlist((f"{old!r} to {new!r}" for old, new in own.items()), 1)
            notes.append(f"renamed by {side_names(len(sides))[number]}: {names}")
    if not new_names:
        return unchanged
    moved = {n for n, side in enumerate(sides) if not new_names.keys().isdisjoint(side.parameters)} | {_BASE}
    named = tuple(_renamed(side, new_names) for side in sides)
    return Followed(_renamed(base, new_names), named, frozenset(moved), tuple(notes))


def _possible(others: Iterable[tuple[Manifest, Mapping[str, str]]], old: str, new: str) -> bool:
    """Return whether the other sides do not use a side's new name otherwise."""
    return all(
        renames.get(old, new) == new and (new not in side.parameters or renames.get(old) == new)
        for side, renames in others
    )


def _changed(base: Manifest, others: Iterable[tuple[Manifest, Mapping[str, str]]], old: str) -> bool:
    """Return whether another side changed the value of a parameter."""
    before = base.parameters[old]
    return any(side.parameters.get(old, before) != before for side, _ in others)


def _modules(old: str, new: str) -> tuple[str, str]:
    return _module(old), _module(new)


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
    modules = {_modules(old, new) for old, new in plain.items()}
    certain = {old: new for old, new in renamed.items() if old in plain or _modules(old, new) in modules}
    return certain | _of_renamed_modules(modules, certain, gone, side, base)


def _of_renamed_modules(
    modules: Iterable[tuple[str, str]],
    certain: Mapping[str, str],
    gone: Iterable[tuple[int, str, Digest]],
    side: Manifest,
    base: Manifest,
) -> dict[str, str]:
    """Return parameters with equal values in several modules, such as zero points, whose module was renamed."""
    targets: dict[str, set[str]] = {}
    for old, new in modules:
        targets.setdefault(old, set()).add(new)
    taken = set(certain.values())
    more = {}
    for _, name, digest in gone:
        module = _module(name)
        local = name[len(module) :].removeprefix(".")
        if name in certain or len(targets.get(module, ())) != 1:
            continue
        (target,) = targets[module]
        new = f"{target}.{local}" if target else local
        value = side.parameters.get(new)
        if value is not None and value.digest == digest and new not in base.parameters and new not in taken:
            more[name] = new
            taken.add(new)
    return more


def _module(name: str) -> str:
    module = name.rpartition(".")[0]
    return module.removesuffix(".quant_state").removesuffix(".weight")  # of names such as up_proj.weight.absmax


def _constant(parameter: Parameter) -> bool:
    """Return whether all values are 0 or all are 1, as in untrained biases and norms, which are all equal."""
    spec = parameter.spec
    return spec.nbytes <= _LARGEST_CONSTANT and parameter.digest in _constants(spec)


@lru_cache(maxsize=256)
def _constants(spec: TensorSpec) -> frozenset[Digest]:
    ones = _ONES.get(spec.dtype.name, b"\0") * spec.elements
    contents = [bytes(spec.nbytes), *([ones] if len(ones) == spec.nbytes else [])]
    return frozenset(tensor_digest(spec, content) for content in contents)
