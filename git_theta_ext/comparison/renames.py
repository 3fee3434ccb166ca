"""Which parameters were renamed: those whose value is gone under one name and new under another.

Equal values are no evidence by themselves: the steps of all parameters in an optimizer are one number, and untrained
biases are all zero. Such parameters count as renamed if their names agree.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    Value = TypeVar("Value", bound=Hashable)

_DIGITS = re.compile(r"[0-9]+")
_NUMBER_BYTES = 8
"""A value of so few bytes, such as a step, may be equal by chance."""
_TIED = 3
"""Names of one value that tied tensors have at most, such as embeddings that the head of a model shares."""


def find_renames(gone: Mapping[str, tuple[Value, int]], added: Mapping[str, tuple[Value, int]]) -> dict[str, str]:
    """Return the new name of each renamed parameter, in the order of ``added``, and its former name.

    Args:
        gone: Names that only the older version has, with the digest of the value and its size in bytes.
        added: Likewise, names that only the newer version has.
    """
    names: dict[tuple[Value, int], tuple[list[str], list[str]]] = {}
    for name, value in gone.items() if added else ():
        names.setdefault(value, ([], []))[0].append(name)
    for name, value in added.items() if names else ():
        if (same := names.get(value)) is not None:
            same[1].append(name)
    pairs: dict[str, str] = {}
    for (_, nbytes), (old, new) in names.items():
        if new:
            pairs |= _pairs(old, new, number=nbytes <= _NUMBER_BYTES)
    return {name: pairs[name] for name in added if name in pairs}


def _pairs(old: Sequence[str], new: Sequence[str], *, number: bool) -> dict[str, str]:
    """Pair names of one value, those that agree in most of their last components first.

    Args:
        old: Former names.
        new: New names.
        number: Whether the value is so small that only names say what was renamed.

    Returns:
        New name to former name.
    """
    if len(old) == len(new) == 1 and not number:
        return {new[0]: old[0]}
    pairs: dict[str, str] = {}
    components = {name: (tuple(_DIGITS.findall(name)), name.split(".")) for name in (*old, *new)}
    for length in range(max(len(parts) for _, parts in components.values()), 0, -1):
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[list[str], list[str]]] = {}
        for place, names in enumerate((old, new)):
            for name in names:
                numbers, parts = components[name]
                groups.setdefault((numbers, tuple(parts[-length:])), ([], []))[place].append(name)
        for former, current in groups.values():
            if len(former) == len(current) and (len(current) == 1 or not number):
                pairs.update(zip(current, former, strict=True))
        taken = set(pairs.values())
        old, new = [name for name in old if name not in taken], [name for name in new if name not in pairs]
    if not number and max(len(old), len(new)) <= _TIED:
        pairs.update(zip(new, old, strict=False))
    return pairs
