"""The numbers of a change as short texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from git_theta_ext.comparison.changes import GroupChange
    from git_theta_ext.comparison.distance import Distance
    from git_theta_ext.comparison.lora_updates import LoraChange

_WHOLE = 0.9995
_NEARLY_ONE = 0.999
_TWO_DIGITS = 0.1


def numbers(group: GroupChange, *, brief: bool = False) -> str:
    """Say in one line how far the values of a group moved.

    Args:
        group: The changes.
        brief: Whether to leave out the share of elements that differ.
    """
    if updates := [change.update for change in group.changes if change.update is not None]:
        return ", ".join(_update_words(updates))
    if group.distance is None:
        return ""
    share = percent(group.distance.share)
    if (rows := common(group)) and not group.distance.changed:
        return f"{rows} did not change"
    parts = [
        f"rel. change {moved}" if (moved := relative(group)) else "",
        f"{share} of elements" if group.distance.share < _WHOLE and not brief else "",
        f"rank {low}" if _is_low(group) and (low := rank(group)) else "",
        alarm(group.distance),
        f"in {rows}" if rows else "",
    ]
    return ", ".join(filter(None, parts))


def common(group: GroupChange) -> str:
    """Say which rows of reshaped parameters the numbers of a group are about; empty for whole tensors."""
    rows = {change.common_rows for change in group.changes} - {None}
    if not rows:
        return ""
    return f"the first {plural(rows.pop() or 0, 'row')}" if len(rows) == 1 else "the first rows, which both have"


def all_numbers(group: GroupChange) -> str:
    """Say everything that was measured of a group in one line."""
    if updates := [change.update for change in group.changes if change.update is not None]:
        return ", ".join(_update_words(updates))
    distance = group.distance
    if distance is None:
        return ""
    parts = [
        f"rel. change {moved}" if (moved := relative(group)) else "",
        f"cosine {turned}" if (turned := cosine(distance)) else "",
        f"largest {distance.largest:.1e}" if distance.largest is not None else "",
        f"{percent(distance.share)} of elements",
        f"{plural(distance.flips, 'sign flip')}" if distance.flips else "",
        f"rank {low}" if (low := rank(group)) else "",
        f"norm {distance.norm_old:.3g} -> {distance.norm_new:.3g}"
        if distance.norm_old is not None and distance.norm_new is not None
        else "",
        alarm(distance),
        f"in {rows}" if (rows := common(group)) else "",
    ]
    return ", ".join(filter(None, parts))


def relative(group: GroupChange) -> str:
    """Return the relative changes of the members, from the smallest to the largest; empty if there are none."""
    return _span([value for near in _distances(group) if (value := near.relative) is not None])


def rank(group: GroupChange) -> str:
    """Return the ranks of the members, from the lowest to the highest; empty if there are none."""
    ranks = sorted({near.rank for near in _distances(group) if near.rank is not None}, key=lambda r: (r.value, r.exact))
    if len({each.value for each in ranks}) == 1:
        return str(ranks[0])
    return f"{ranks[0]} … {ranks[-1].value}" if ranks else ""


def cosine(distance: Distance) -> str:
    """Return the cosine of both versions, with as many digits as it takes to differ from 1."""
    value = distance.cosine
    if value is None:
        return ""
    if value < _NEARLY_ONE:
        return f"{value:.3f}"
    return f"1 - {1 - value:.1e}" if value < 1 else "1"


def percent(share: float) -> str:
    """Return a share with two digits; a change is never shown as ``0 %``."""
    return f"{share * 100:.0f} %" if share >= _TWO_DIGITS or not share else f"{share * 100:.2g} %"


def alarm(distance: Distance) -> str:
    """Name the NaN and infinite values of the newer version; empty if there are none."""
    counts = ((distance.nan_new, "NaN"), (distance.infinite_new, "inf"))
    return " and ".join(f"{count} {kind}" for count, kind in counts if count)


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
        yield f"{'change of ' if relative else ''}rank {_whole_span(ranks)} (99.9 % in {_whole_span(shares)})"


def _whole_span(values: Sequence[int]) -> str:
    return " … ".join(str(value) for value in dict.fromkeys((min(values), max(values))))


def _is_low(group: GroupChange) -> bool:
    """Return whether all ranks are known, and not just too high to count."""
    return all(near.rank is None or near.rank.exact for near in _distances(group))


def _distances(group: GroupChange) -> Iterable[Distance]:
    return (change.distance for change in group.changes if change.distance is not None)


def _span(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    texts = list(dict.fromkeys(f"{value:.1e}" for value in (min(known), max(known)))) if known else []
    if len(known) < len(values):
        texts.append("nan")
    return " … ".join(texts)
