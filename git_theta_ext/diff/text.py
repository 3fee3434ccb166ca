"""A diff as text for people; a full fine-tune of hundreds of parameters fits on one screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.diff.changes import Kind
from git_theta_ext.diff.group import printable
from git_theta_ext.diff.words import human_bytes, plural, shorten
from git_theta_ext.model.units import LORA, QUANTISED, one_row
from git_theta_ext.util.text import printable as safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.diff.changes import GroupChange, ModelChange
    from git_theta_ext.diff.compare import Diff
    from git_theta_ext.diff.lora_updates import LoraChange

MOST_LINES = 40
"""The maximum number of lines in a diff."""

_MOST_CONFLICTS = 8
_LEAST_LABEL = 24
_WORDS = {"+": "added", "-": "removed", "~": "modified", ">": "renamed"}
_COLOURS = {"+": "32", "-": "31", "~": "33", ">": "36", "!": "35", "@": "1"}
_WHOLE = 0.9995


@dataclass(frozen=True, slots=True)
class Screen:
    """The terminal that text is written to.

    Attributes:
        width: Number of columns; 0 for no limit.
        colour: Whether it supports ANSI colour sequences.
    """

    width: int = 0
    colour: bool = False


def render(change: ModelChange, screen: Screen) -> str:
    """Write a diff for people.

    Returns:
        At most ``MOST_LINES`` lines, plus the notes; each ends with a newline.
    """
    diff = change.diff
    lines = [("@", f"diff --theta {printable(change.headline)}"), ("", summary(diff))]
    if diff.old_format != diff.new_format and diff.old_format and diff.new_format:
        lines.append(("~", f"format {diff.old_format} -> {diff.new_format}"))
    lines += _files(diff)
    tail = list(_conflicts(diff))
    if diff.layout_changed and not (diff.added or diff.removed or diff.renamed or diff.moved or _opaque(diff)):
        tail.insert(0, ("~", "~ the file's order or metadata"))
    lines += _body(change, screen.width, MOST_LINES - len(lines) - len(tail))
    lines += [*tail, *(("", note) for note in change.notes)]
    return "".join(f"{_paint(sign, safe(text)) if screen.colour else safe(text)}\n" for sign, text in lines)


def _paint(sign: str, text: str) -> str:
    return f"\x1b[{_COLOURS[sign]}m{text}\x1b[m" if sign else text


def summary(diff: Diff) -> str:
    """Count the changes in a line."""
    size = human_bytes(diff.total_bytes)
    if _opaque(diff):
        chunks = plural(diff.total, "chunk")
        if diff.old_format is None or diff.new_format is None:
            gone = "new" if diff.old_format is None else "deleted"
            return f"{gone} file of {chunks}, {size}, whose parameters are unknown"
        part = f"{human_bytes(diff.fresh_bytes)} of {size}"
        return f"{diff.fresh} of {chunks}, {part} differ; its parameters are unknown"
    files = diff.new_files or diff.old_files
    what = f"model of {len(files)} files" if len(files) > 1 else "file"
    if diff.old_format is None:
        return f"new {what} ({diff.new_format}): {plural(diff.total, 'parameter')}, {size}"
    if diff.new_format is None:
        return f"deleted {what} ({diff.old_format}): {plural(diff.total, 'parameter')}, {size}"
    counts = {"~": len(diff.modified), "+": len(diff.added), "-": len(diff.removed), ">": len(diff.renamed)}
    parts = [f"{count} {_WORDS[sign]}" for sign, count in counts.items() if count]
    parts.append(f"{len(diff.unchanged)} unchanged")
    return f"{', '.join(parts)}; {human_bytes(diff.fresh_bytes)} of {size} differ"


def _files(diff: Diff) -> Iterator[tuple[str, str]]:
    """Say how parameters are divided otherwise between the files of a model."""
    old, new = len(diff.old_files), len(diff.new_files)
    counts = f"{old} -> {plural(new, 'file')}" if old and new and old != new else ""
    if diff.moved:
        yield ">", f"> {plural(len(diff.moved), 'parameter')} moved between files{f' ({counts})' if counts else ''}"
    elif counts:
        yield ">", f"> {counts}"


def _opaque(diff: Diff) -> bool:
    return {diff.old_format, diff.new_format} <= {"opaque", None}


def _body(change: ModelChange, width: int, most: int) -> Iterator[tuple[str, str]]:
    if _opaque(change.diff):
        return
    groups = change.groups(most)
    cells = [(group.label, group.spec, _what(group), numbers(group)) for group in groups]
    widths = [max((len(cell[n]) for cell in cells), default=0) for n in range(3)]
    if width:
        # The numbers come last, where the terminal may cut them off; names are shortened first.
        rest = 2 + 2 + widths[1] + 2 + widths[2] + 2 + max((len(cell[3]) for cell in cells), default=0)
        widths[0] = min(widths[0], max(_LEAST_LABEL, width - rest))
    for group, (label, spec, what, moved) in zip(groups, cells, strict=True):
        name = shorten(label, widths[0])
        sign = group.kind.sign
        text = f"{sign} {name:<{widths[0]}}  {spec:<{widths[1]}}  {what:<{widths[2]}}  {moved}"
        yield sign, text.rstrip()


def _what(group: GroupChange) -> str:
    first = group.changes[0]
    if len(group.changes) > 1:
        return f"{len(group.changes)} {group.kind.value}"
    return f"renamed from {printable(first.old_name)}" if group.kind is Kind.RENAMED else group.kind.value


def numbers(group: GroupChange) -> str:
    """Say how far the values of a group moved."""
    if updates := [change.update for change in group.changes if change.update is not None]:
        return ", ".join(_update_words(updates))
    distance = group.distance
    if distance is None:
        return ""
    parts = []
    distances = [change.distance for change in group.changes if change.distance is not None]
    if relative := [each.relative for each in distances if each.relative is not None]:
        parts.append(f"rel. change {_span(relative)}")
    if distance.share < _WHOLE:
        parts.append(f"{_percent(distance.share)} of elements")
    if distance.nonfinite_new:
        parts.append(f"{distance.nonfinite_new} NaN or inf")
    return ", ".join(parts)


def _update_words(updates: Sequence[LoraChange]) -> Iterator[str]:
    """Say how the updates of LoRAs differ."""
    relative = [update.relative for update in updates if update.relative is not None]
    if relative:
        yield f"rel. change {_span(relative)}"
    norm = "norm" if all(update.scaled for update in updates) else "norm of B @ A"
    old = [update.old.norm for update in updates if update.old is not None]
    new = [update.new.norm for update in updates if update.new is not None]
    if len(updates) == 1 and relative:
        yield f"{norm} {old[0]:.1e} -> {new[0]:.1e}"
    else:
        yield f"{norm} {_span(new or old)}"
    ranks = [update.rank for update in updates if update.rank is not None]
    shares = [update.energy_rank for update in updates if update.energy_rank is not None]
    if ranks:
        yield f"{'change of ' if relative else ''}rank {_whole_span(ranks)} (99 % in {_whole_span(shares)})"


def _whole_span(values: Sequence[int]) -> str:
    return " … ".join(str(value) for value in dict.fromkeys((min(values), max(values))))


def _span(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    texts = list(dict.fromkeys(f"{value:.1e}" for value in (min(known), max(known)))) if known else []
    if len(known) < len(values):
        texts.append("nan")
    return " … ".join(texts)


def _percent(share: float) -> str:
    # A change is never shown as "0 %".
    return f"{share * 100:.2g} %" if share else "0 %"


def _conflicts(diff: Diff) -> Iterator[tuple[str, str]]:
    if not diff.conflicted:
        return
    count = len(diff.conflicts) + (diff.layout_conflict is not None)
    yield "!", f"{plural(count, 'unresolved conflict')} (git theta resolve):"
    if diff.layout_conflict is not None:
        yield "!", f"! the file's layout: {diff.layout_conflict.reason}"
    homes = one_row(diff.units, (QUANTISED, LORA))
    rows = {homes[c.name].label if c.name in homes else printable(c.name): c.reason for c in diff.conflicts}
    shown = list(rows.items())[: _MOST_CONFLICTS - (len(rows) > _MOST_CONFLICTS)]
    yield from (("!", f"! {name}: {reason}") for name, reason in shown)
    if len(shown) < len(rows):
        yield "!", f"! and {len(rows) - len(shown)} more"
