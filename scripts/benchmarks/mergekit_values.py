"""Compare merged values with mergekit's: each method that both have, on two fine-tunes of a model.

mergekit merges them by a configuration, and git theta by the merge rules that say the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.mergekit_models import real, trained
from benchmarks.mergekit_slices import stacked
from benchmarks.report import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.mergekit_models import Models, State


@dataclass(frozen=True)
class Case:
    """A merge as mergekit and as git theta write it.

    Attributes:
        method: mergekit's name of the method.
        rules: The content of ``.thetamerge``, without its version. As in ``parameters``, ``@attention`` and ``@mlp``
            stand for what names of parameters have.
        parameters: mergekit's parameters of all models.
        each: mergekit's parameters of each model.
        base: Whether mergekit gets the common ancestor as ``base_model``; ``ours`` makes it our model.
    """

    method: str
    rules: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Any] = field(default_factory=lambda: {"weight": 1.0})
    base: str = "base"


_TIES = "density: 0.5, scope: tensor, ties: exact"
CASES = {
    "linear": Case("linear", "defaults: {method: average, sides: all}", base=""),
    "linear, not normalised": Case(
        "linear",
        "defaults: {method: linear, sides: all, weights: [0.5, 0.5]}",
        {"normalize": False},
        {"weight": 0.5},
        "",
    ),
    "task_arithmetic": Case(
        "task_arithmetic", "defaults: {method: task_arithmetic, with: {lambda: 0.3}, sides: all}", {"lambda": 0.3}
    ),
    "task negation": Case(
        "task_arithmetic", "defaults: {method: task_arithmetic, weights: [-1, -1], sides: all}", {}, {"weight": -1.0}
    ),
    "ties": Case("ties", f"defaults: {{method: ties, with: {{{_TIES}}}, sides: all}}", {"density": 0.5}),
    "dare_linear, density 1": Case(
        "dare_linear", "defaults: {method: dare, with: {density: 1}, sides: all}", {"density": 1.0}
    ),
    "breadcrumbs": Case(
        "breadcrumbs",
        "defaults: {method: breadcrumbs, with: {density: 0.9, gamma: 0.01}, sides: all}",
        {"density": 0.9, "gamma": 0.01},
    ),
    "model_stock": Case("model_stock", "defaults: {method: model_stock, sides: all}", each={}),
    "slerp": Case("slerp", "defaults: {method: slerp, with: {t: 0.4}, sides: all}", {"t": 0.4}, {}, "ours"),
    "slerp, gradients and filters": Case(
        "slerp",
        "defaults: {method: slerp, with: {t: 0.5}, sides: all}\n"
        "rules:\n"
        "  - {match: '**.@attention.**', with: {t: [0, 0.5, 0.3, 0.7, 1]}}\n"
        "  - {match: '**.@mlp.**', with: {t: [1, 0.5, 0.7, 0.3, 0]}}\n",
        {
            "t": [
                {"filter": "@attention", "value": [0, 0.5, 0.3, 0.7, 1]},
                {"filter": "@mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
                {"value": 0.5},
            ]
        },
        {},
        "ours",
    ),
    "task_arithmetic, gradient": Case(
        "task_arithmetic",
        "defaults: {method: task_arithmetic, weights: [[0, 1], [0, 1]], sides: all}",
        {},
        {"weight": [0.0, 1.0]},
    ),
    "nuslerp": Case("nuslerp", "defaults: {method: nuslerp, sides: all}"),
    "karcher": Case("karcher", "defaults: {method: karcher, sides: all}", each={}, base=""),
    "multislerp": Case("multislerp", "defaults: {method: multislerp, sides: all}"),
    "sce": Case("sce", "defaults: {method: sce, with: {density: 0.5}, sides: all}", {"select_topk": 0.5}, {}),
}


def run(files: Path | None, folder: Path) -> list[dict[str, Any]]:
    """Merge by every case, print a table for each pair of fine-tunes, and return the rows.

    Args:
        files: A directory of real fine-tunes; None for those that are made here.
        folder: A directory in which this can work.
    """
    rows = []
    place = folder / "mergekit"
    place.mkdir()
    pairs: Iterable[Models] = [trained(place)] if files is None else real(files, place)
    for models in pairs:
        measured = _measured(models)
        print(f"{models.name}\n\n{_table(measured)}\n", flush=True)
        rows += measured
    return rows


def _measured(models: Models) -> list[dict[str, Any]]:
    """Return how far the values of each case are from mergekit's."""
    import git_theta_ext

    base, *sides = models.states.values()
    rows = []
    for name, case in CASES.items():
        theirs = _mergekit(models, case)
        rules = f"version: 1\n{_named(case.rules, models)}"
        ours = git_theta_ext.merge(sides, base=base, rules=rules, device="cpu")
        row = {"models": models.name, "merge": name, "method": case.method}
        rows.append({**row, **_difference(base, sides, ours, theirs)})
    for name, (ours, theirs, before) in stacked(models.folder).items():
        row = {"models": models.name, "merge": name, "method": "slices"}
        rows.append({**row, **_difference(before, (ours, theirs), ours, theirs)})
    return rows


def _named(text: str, models: Models) -> str:
    return text.replace("@attention", models.attention).replace("@mlp", models.mlp)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = ["merge", "values", "of which differ", "largest difference, of the largest change of its tensor"]
    cells = [
        [
            row["merge"],
            str(row["values"]),
            f"{row['differ']} ({row['differ'] / row['values']:.2%})",
            f"{row['largest']:.1e}",
        ]
        for row in rows
    ]
    return markdown(columns, cells)


def _difference(base: State, sides: Sequence[State], ours: State, theirs: State) -> dict[str, Any]:
    """Compare values, also relative to the largest change of their tensor, or to its largest value if none changed."""
    values = differ = 0
    largest = 0.0
    for name, value in theirs.items():
        values += value.numel()
        differ += int((ours[name] != value).sum())
        change = max(float((side[name] - base[name]).abs().max()) for side in sides)
        off = float((ours[name] - value).abs().max())
        largest = max(largest, off / (change or float(base[name].abs().max()) or 1.0))
    return {"values": values, "differ": differ, "largest": largest}


def _mergekit(models: Models, case: Case) -> State:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge
    from safetensors.torch import load_file

    sources = [{"model": str(models.folder / name), "parameters": dict(case.each)} for name in ("ours", "theirs")]
    config: dict[str, Any] = {"merge_method": case.method, "models": sources, "dtype": "float32"}
    config["parameters"] = json.loads(_named(json.dumps(dict(case.parameters)), models))
    if case.base:
        config["base_model"] = str(models.folder / case.base)
    out = models.folder / "merged"
    run_merge(MergeConfiguration.model_validate(config), str(out), MergeOptions(copy_tokenizer=False, quiet=True))
    return load_file(out / "model.safetensors")
