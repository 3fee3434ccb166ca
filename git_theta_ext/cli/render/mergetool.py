"""Texts of ``git theta mergetool``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.comparison.group import Item, by_unit, fold
from git_theta_ext.comparison.words import aligned, human_bytes, percent, plural
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.resolve_preview import movers
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.merging.reporting.measures import Measures
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.units import Unit
    from git_theta_ext.operations.merge.conflicted_model import ConflictedModel
    from git_theta_ext.operations.merge.resolve_preview import Preview

_MOST_GROUPS = 40
_TWO = 2
SHORT = {"o": "ours", "t": "theirs", "b": "base", "a": "average", **{f"t{n}": f"theirs{n}" for n in range(1, 64)}}
"""Abbreviations of answers."""

HELP = """\
  o, t, b    take our version, theirs (of several t1, t2 ...), or the common ancestor's
  a          average; or any method with options: ties density=0.1 lambda=0.8
  p          preview some methods, or one: p METHOD NAME=VALUE ...
  s          split: ask about each of these parameters separately
  k          skip: leave them in conflict for now
  q          quit: leave everything else in conflict; answers so far are kept"""
LAYOUT_QUESTION = "  whose order and metadata? [o t b k] "


def headline(checkpoint: ConflictedModel) -> str:
    """Count the conflicts."""
    return f"{shown_path(checkpoint.path)}: {plural(len(checkpoint.manifest.conflicts), 'parameter')} in conflict"


def groups_of(
    conflicts: Sequence[Conflict], apart: AbstractSet[str], units: Iterable[Unit] = ()
) -> list[tuple[str, list[Conflict]]]:
    """Group conflicts that are alike and whose names differ only in numbers, except those in ``apart``.

    The parts of a quantised weight are one.

    Returns:
        What the names of each group have in common, and the group.
    """
    homes = one_row(units)
    alike: dict[tuple[object, ...], list[Conflict]] = defaultdict(list)
    for conflict in conflicts:
        unit = homes.get(conflict.name)
        key = (unit.members[0] if unit else conflict.name) if conflict.name in apart else ""
        alike[key, conflict.reason, () if unit else movers(conflict)].append(conflict)
    groups: list[tuple[str, list[Conflict]]] = []
    for members in alike.values():
        named = {conflict.name: conflict for conflict in members}
        items = [Item("~", conflict.name, _spec(conflict)) for conflict in members]
        for row in fold(by_unit(items, set(homes.values()), min), _MOST_GROUPS):
            label = f"{row.label} ({row.spec})" if row.items[0].members else row.label
            groups.append((label, [named[name] for item in row.items for name in item.names]))
    return sorted(groups, key=lambda group: group[1][0].name)


def about(label: str, conflicts: Sequence[Conflict], measures: Measures | None, groups: int) -> str:
    """Describe a group and the distances of its sides."""
    first = conflicts[0]
    size = sum(value.spec.nbytes for c in conflicts for value in c.sides[:1] if value is not None)
    count = f"{plural(len(conflicts), 'parameter')}, {_spec(first)}, {human_bytes(size)}"
    lines = ["", f"{label}   ({plural(groups, 'group')} to go)", f"  {count}: {first.reason}"]
    sides = movers(first)
    if measures is None:
        lines += [f"  {name}: {value.spec if value is not None else 'deleted'}" for name, value in _values(first)]
        return "\n".join(lines)
    rows = [["", "change", "elements", f"cosine with {sides[0]}"]]
    for number, side in enumerate(sides):
        share = measures.moved[number] / max(measures.elements, 1)
        cosine = _number(measures.cosine(0, number)) if number else ""
        rows.append([side, percent(measures.distances[number]), percent(share), cosine])
    lines += aligned(rows)
    if measures.agreement is not None:
        lines.append(f"  signs conflict in {percent(1 - measures.agreement)} of what several sides changed")
    return "\n".join(lines)


def previews(conflicts: Sequence[Conflict], count: int, results: Sequence[Preview]) -> str:
    """Describe what methods would make of a group."""
    sides = movers(conflicts[0])
    rows = [["method", "change", "elements", *(f"cosine with {side}" for side in sides)]]
    for result in results:
        if result.measures is None:
            rows.append([result.choice.words, result.reason, "", *[""] * len(sides)])
            continue
        last = len(result.measures.products) - 1
        share = result.measures.moved[last] / max(result.measures.elements, 1)
        cosines = [_number(result.measures.cosine(number, last)) for number in range(last)]
        rows.append([result.choice.words, percent(result.measures.distances[last]), percent(share), *cosines])
    part = [] if count == len(conflicts) else [f"  computed from {count} of {plural(len(conflicts), 'parameter')}"]
    return "\n".join([*aligned(rows), *part])


def layout(checkpoint: ConflictedModel) -> str:
    """Describe the conflict about the file's layout."""
    conflict = checkpoint.manifest.layout_conflict
    assert conflict is not None
    return f"\nthe file's layout: {conflict.reason}"


def question(conflict: Conflict) -> str:
    """Return the question about a group."""
    others = ["t"] if len(conflict.sides) == _TWO else [f"t{n}" for n in range(1, len(conflict.sides))]
    return f"  what to do? [{' '.join(['o', *others, 'b', 'a', 'METHOD', 'p', 's', 'k', 'q', '?'])}] "


def _values(conflict: Conflict) -> list[tuple[str, Parameter | None]]:
    return [("base", conflict.base), *zip(side_names(len(conflict.sides)), conflict.sides, strict=True)]


def _spec(conflict: Conflict) -> str:
    value = next(filter(None, (*conflict.sides, conflict.base)), None)
    return "" if value is None else str(value.spec)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
