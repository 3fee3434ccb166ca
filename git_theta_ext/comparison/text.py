"""A diff as text for people; a full fine-tune of hundreds of parameters fits on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import Kind
from git_theta_ext.comparison.group import common_module, printable
from git_theta_ext.comparison.numbers import all_numbers, numbers
from git_theta_ext.comparison.words import human_bytes, plural, shorten
from git_theta_ext.model.units import LORA, QUANTISED, one_row
from git_theta_ext.util.text import printable as safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.comparison.changes import GroupChange, ModelChange
    from git_theta_ext.comparison.compare import Diff
    from git_theta_ext.comparison.screen import Screen

MOST_LINES = 40
"""The maximum number of lines in a diff."""

_MOST_CONFLICTS = 8
_LEAST_LABEL = 24
_LEAST_MODULE = 12
_WORDS = {"+": "added", "-": "removed", "~": "modified", ">": "renamed"}
_COLOURS = {"+": "32", "-": "31", "~": "33", ">": "36", "!": "35", "@": "1"}


def render(change: ModelChange, screen: Screen, *, full: bool = False) -> str:
    """Write a diff for people.

    Args:
        change: The diff.
        screen: The terminal.
        full: Whether to show each parameter with all numbers, however many there are.

    Returns:
        At most ``MOST_LINES`` lines, plus the notes; each ends with a newline.
    """
    diff = change.diff
    lines = [("@", f"diff --theta {change.headline}"), ("", summary(diff, width=screen.width))]
    if diff.old_format != diff.new_format and diff.old_format and diff.new_format:
        lines.append(("~", f"format {diff.old_format} -> {diff.new_format}"))
    lines += _files(diff)
    tail = list(_conflicts(diff))
    if diff.layout_changed and not (diff.added or diff.removed or diff.renamed or diff.moved or is_opaque(diff)):
        tail.insert(0, ("~", "~ the file's order or metadata"))
    lines += _alarm(change)
    groups = change.single() if full else change.groups(MOST_LINES - len(lines) - len(tail))
    if not is_opaque(diff):
        lines += _body(groups, screen.width, all_numbers if full else numbers)
    lines += [*tail, *(("", note) for note in change.notes)]
    return "".join(f"{paint(sign, safe(text)) if screen.colour else safe(text)}\n" for sign, text in lines)


def paint(sign: str, text: str) -> str:
    """Colour a line as its sign asks for."""
    return f"\x1b[{_COLOURS[sign]}m{text}\x1b[m" if sign else text


def summary(diff: Diff, quoted: Callable[[str], str] = str, width: int = 0) -> str:
    """Count the changes in a line.

    Args:
        diff: The changes.
        quoted: Writes the name of a module.
        width: Characters of the line; 0 for no limit. The name of a module is shortened if there are more.
    """
    size = human_bytes(diff.total_bytes)
    if is_opaque(diff):
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
    module = common_module([*diff.removed, *diff.added, *diff.renamed, *diff.modified], diff.unchanged)
    text = f"{', '.join(parts)}; {human_bytes(diff.fresh_bytes)} of {size} differ"
    if not module:
        return text
    text += ", all in "
    return text + quoted(shorten(module, max(_LEAST_MODULE, width - len(text))) if width else module)


def _files(diff: Diff) -> Iterator[tuple[str, str]]:
    """Say how parameters are divided otherwise between the files of a model."""
    old, new = len(diff.old_files), len(diff.new_files)
    counts = f"{old} -> {plural(new, 'file')}" if old and new and old != new else ""
    if diff.moved:
        yield ">", f"> {plural(len(diff.moved), 'parameter')} moved between files{f' ({counts})' if counts else ''}"
    elif counts:
        yield ">", f"> {counts}"


def is_opaque(diff: Diff) -> bool:
    """Return whether the parameters of both versions are unknown."""
    return {diff.old_format, diff.new_format} <= {"opaque", None}


def _alarm(change: ModelChange) -> Iterator[tuple[str, str]]:
    """Warn of NaN and infinite values that the older version does not have."""
    broken = sum(near.nonfinite_new > near.nonfinite_old for near in change.distances.values())
    if broken:
        yield "!", f"! NaN or infinite values appeared in {plural(broken, 'parameter')}"


def _body(
    groups: Sequence[GroupChange], width: int, numbers_of: Callable[[GroupChange], str]
) -> Iterator[tuple[str, str]]:
    cells = [(group.label, group.spec, what(group), numbers_of(group)) for group in groups]
    widths = _widths(cells)
    if 0 < width < _length(widths):
        # The sign says what is modified, too. Then some numbers are left out, and last names are shortened.
        cells = [(*cell[:2], _brief(group), cell[3]) for group, cell in zip(groups, cells, strict=True)]
        widths = _widths(cells)
        if numbers_of is numbers and width < _length(widths):
            brief = [numbers(group, brief=True) for group in groups]
            cells = [(*cell[:3], moved) for cell, moved in zip(cells, brief, strict=True)]
            widths = _widths(cells)
        widths[0] = min(widths[0], max(_LEAST_LABEL, width - _length([0, *widths[1:]])))
    for group, (label, spec, kind, moved) in zip(groups, cells, strict=True):
        name = shorten(label, widths[0])
        sign = group.kind.sign
        yield sign, f"{sign} {name:<{widths[0]}}  {spec:<{widths[1]}}  {kind:<{widths[2]}}  {moved}".rstrip()


def _widths(cells: Sequence[tuple[str, str, str, str]]) -> list[int]:
    return [max((len(cell[n]) for cell in cells), default=0) for n in range(4)]


def _length(widths: Sequence[int]) -> int:
    """Return the length of the longest line: a sign, and columns with two spaces between them."""
    return 2 + sum(widths) + 2 * (len(widths) - 1)


def what(group: GroupChange) -> str:
    """Say how many parameters of a group changed, and how."""
    first = group.changes[0]
    if len(group.changes) > 1:
        return f"{len(group.changes)} {group.kind.value}"
    return f"renamed from {printable(first.old_name)}" if group.kind is Kind.RENAMED else group.kind.value


def _brief(group: GroupChange) -> str:
    """Return ``what`` without the word for what is modified; a bare number would have no unit."""
    if group.kind is not Kind.MODIFIED:
        return what(group)
    return f"x{len(group.changes)}" if len(group.changes) > 1 else ""


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
