"""A diff as one line for each group with a bar, as ``git diff --stat`` has one for each file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.comparison.numbers import relative
from git_theta_ext.comparison.text import MOST_LINES, is_opaque, paint, summary
from git_theta_ext.comparison.words import shorten
from git_theta_ext.util.text import printable as safe

if TYPE_CHECKING:
    from git_theta_ext.comparison.changes import GroupChange, ModelChange
    from git_theta_ext.comparison.screen import Screen

_BAR = 20
_LEAST_LABEL = 24


def render_stat(change: ModelChange, screen: Screen) -> str:
    """Write a diff with a bar for each group, whose length is the relative change, and a last line with the counts."""
    groups = [] if is_opaque(change.diff) else change.groups(MOST_LINES - 2)
    longest = max(map(_size, groups), default=0.0)
    cells = [(group.label, str(len(group.changes)), relative(group) or group.kind.value) for group in groups]
    widths = [max((len(cell[n]) for cell in cells), default=0) for n in range(3)]
    if screen.width:
        widths[0] = min(widths[0], max(_LEAST_LABEL, screen.width - widths[1] - widths[2] - _BAR - 7))
    lines = [change.headline]
    for group, (label, count, moved) in zip(groups, cells, strict=True):
        sign = group.kind.sign
        bar = sign * (math.ceil(_BAR * _size(group) / longest) if longest and group.distance else 1)
        shown = paint(sign, bar) if screen.colour else bar
        name = safe(shorten(label, widths[0]))
        lines.append(f" {name:<{widths[0]}} | {count:>{widths[1]}} {moved:<{widths[2]}} {shown}")
    return "\n".join([*lines, f" {summary(change.diff, width=max(0, screen.width - 1))}", ""])


def _size(group: GroupChange) -> float:
    """Return the relative change of a group; 0 if it is not a finite number."""
    size = None if group.distance is None else group.distance.relative
    return size if size is not None and math.isfinite(size) else 0.0
