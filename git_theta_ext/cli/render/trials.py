"""Merges on trial as a table and JSON.

``trials`` of the JSON has one object for each trial, with ``words`` (method and options), ``models`` (paths),
``conflicts``, ``merged`` (method to the number of parameters), ``taken``, ``change`` (norm of the change by the merge
over that of the common ancestor), ``sides`` (for each side the same of its change as ``change``, and the ``cosine``
between them), ``stored`` (bytes of the merged tensors), ``seconds`` and ``warnings``. Unknown values are null.
"""

from __future__ import annotations

import math
from collections import Counter
from shlex import join
from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.fitting import fitted
from git_theta_ext.comparison.words import human_bytes
from git_theta_ext.model.conflicts import side_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.operations.merge.comparison import ComparedTrial


def to_json(compared: ComparedTrial) -> dict[str, Any]:
    """Describe a trial in types that ``json.dumps`` accepts."""
    trial, names = compared.trial, side_names(len(compared.cosines))
    change = _finite(compared.distances[-1]) if compared.distances else None
    sides = [
        {"side": name, "change": _finite(distance), "cosine": cosine}
        for name, distance, cosine in zip(names, compared.distances, compared.cosines, strict=False)
    ]
    return {
        "words": list(trial.words),
        "models": sorted(trial.models),
        "conflicts": trial.conflicts,
        "merged": dict(_merged(compared)),
        "taken": sum(model.outcome.taken for model in trial.models.values()),
        "change": change,
        "sides": sides,
        "stored": compared.stored,
        "seconds": trial.seconds,
        "warnings": list(trial.warnings),
    }


def lines(trials: Sequence[ComparedTrial], revisions: Sequence[str]) -> Iterator[str]:
    """Describe trials as a table, and the command that makes the merge."""
    count = max(len(compared.cosines) for compared in trials)
    names = side_names(count) if count else ()
    yield "change: of all changed parameters, from the common ancestor"
    if names:
        yield f"{names[0]}{' to ' if count > 2 else ', '}{names[-1]}: cosine with that change"  # noqa: PLR2004 - all
    heading = ("try", "merged", "taken", "conflicts", "change", *names, "stored", "time")
    yield from fitted([_cells(compared, count) for compared in trials], heading)
    for compared in trials:
        yield from (f"  {' '.join(compared.trial.words)}: {warning}" for warning in compared.trial.warnings)
    words = [word for one in trials[0].trial.words for word in ("-X", one)]
    yield f"to merge by the first one: {join(['git', 'merge', '-s', 'theta', *words, *revisions])}"


def _cells(compared: ComparedTrial, count: int) -> list[str]:
    trial = compared.trial
    change = f"{compared.distances[-1]:.3g}" if compared.distances else "-"
    cosines = ["-" if cosine is None else f"{cosine:.3f}" for cosine in compared.cosines] or ["-"] * count
    return [
        " ".join(trial.words) or "the current rules",
        str(sum(_merged(compared).values())),
        str(sum(model.outcome.taken for model in trial.models.values())),
        str(trial.conflicts),
        change,
        *cosines,
        human_bytes(compared.stored),
        f"{trial.seconds:.2f} s",
    ]


def _merged(compared: ComparedTrial) -> Counter[str]:
    counts: Counter[str] = Counter()
    for model in compared.trial.models.values():
        counts.update(model.outcome.computed)
    return counts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
