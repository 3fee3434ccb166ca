"""A model's history as a web page: which commit changed which parameters."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.comparison.distance import combined
from git_theta_ext.comparison.words import plural
from git_theta_ext.operations.history.words import SHORT, describe_merge, describe_model
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.webpage.blocks import Cell, Heatmap, Page, Section, Table
from git_theta_ext.webpage.layers import pattern_of, without_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.comparison.distance import Distance
    from git_theta_ext.operations.history.changes import ChangedModel, CommitChanges

_ABOUT = (
    "A cell is what a commit changed, from the oldest commit on the left.",
    "Parameters whose names differ only in their numbers share a row.",
)
_COLUMNS = ("commit", "date", "author", "subject", "what changed")
_MOST_ROWS, _MOST_COLUMNS = 80, 50

_Version = tuple["CommitChanges", "ChangedModel"]


def history_page(
    title: str, history: Iterable[CommitChanges], measured: Callable[[ChangedModel], ModelChange] | None = None
) -> Page:
    """Return a history as a page.

    Args:
        title: Its title.
        history: The commits, from the newest on.
        measured: Returns how far parameters moved; None if that is not asked for.
    """
    models: dict[str, list[_Version]] = defaultdict(list)
    names: dict[str, str] = {}  # of what was renamed later
    for commit in history:
        for model in commit.models:
            name = names.get(model.path, model.path)
            models[name].append((commit, model))
            if model.old_path not in (None, model.path):
                names[model.old_path] = name
    return Page(title, _ABOUT, [_section(name, models[name], measured) for name in sorted(models)])


def _section(
    name: str, versions: Sequence[_Version], measured: Callable[[ChangedModel], ModelChange] | None
) -> Section:
    facts = [f"{plural(len(versions), 'commit')} changed it."]
    if len(versions) > _MOST_COLUMNS:
        facts.append(f"The map has the last {_MOST_COLUMNS}.")
    chart = _heatmap(versions[:_MOST_COLUMNS][::-1], measured)
    return Section(shown_path(name), facts, [chart, _table(versions)])


def _heatmap(versions: Sequence[_Version], measured: Callable[[ChangedModel], ModelChange] | None) -> Heatmap:
    columns = [_groups(model.names.every) for _, model in versions]
    sizes = Counter({row: max(len(column.get(row, ())) for column in columns) for column in columns for row in column})
    often = Counter(row for column in columns for row in column)
    kept = sorted(row for row, _ in often.most_common(_MOST_ROWS))
    rows: dict[str, list[Cell | None]] = {row: [] for row in kept}
    for (commit, model), column in zip(versions, columns, strict=True):
        distances = None if measured is None else measured(model).distances if model.names.modified else {}
        for row in kept:
            names = column.get(row)
            rows[row].append(_cell(commit, names, sizes[row], distances) if names else None)
    scale = "Share of the parameters that changed" if measured is None else "Relative change"
    labels = [commit.commit.oid[:SHORT] for commit, _ in versions]
    return Heatmap("Changes by commit", "parameters by commit", scale, labels, rows, shares=measured is None)


def _groups(names: Sequence[str]) -> Mapping[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[without_numbers(name)].append(name)
    return groups


def _cell(commit: CommitChanges, names: Sequence[str], most: int, distances: Mapping[str, Distance] | None) -> Cell:
    value: float | None = len(names) / most
    text = f"{len(names)} of {most} changed"
    if distances is not None:
        distance = combined([distances[name] for name in names if name in distances])
        value = None if distance is None else distance.relative
        text += "" if value is None else f", rel. change {value:.1e}"
    pattern = names[0] if len(names) == 1 else pattern_of(names)
    return Cell(value, f"{commit.commit.oid[:SHORT]} {commit.commit.date[:10]} {pattern}: {text}", pattern)


def _table(versions: Sequence[_Version]) -> Table:
    rows = []
    for commit, model in versions:
        about = commit.commit
        merges = [describe_merge(record) for record in commit.records if record.path == model.path]
        rows.append(
            (
                about.oid[:SHORT],
                about.date[:10],
                about.author,
                about.subject,
                "; ".join([describe_model(model), *merges]),
            )
        )
    return Table("Commits", _COLUMNS, rows, {}, named=False)
