"""Compare merged values with mergekit's: each method that both have, on two fine-tunes of a small language model.

The model is a Llama of four layers that learns bytes of this project's documentation; two fine-tunes go on with other
pages. mergekit merges them by a configuration, and git theta by the merge rules that say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.mergekit_slices import stacked
from benchmarks.report import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    State = dict[str, torch.Tensor]

_LAYERS, _WIDTH, _STEPS, _LENGTH = 4, 32, 60, 64
_TEXTS = {"base": ("README.md", 0), "ours": ("docs/merging.md", 1), "theirs": ("docs/store.md", 2)}
_PAGES = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A merge as mergekit and as git theta write it.

    Attributes:
        method: mergekit's name of the method.
        rules: The content of ``.thetamerge``, without its version.
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
        "  - {match: '**.self_attn.**', with: {t: [0, 0.5, 0.3, 0.7, 1]}}\n"
        "  - {match: '**.mlp.**', with: {t: [1, 0.5, 0.7, 0.3, 0]}}\n",
        {
            "t": [
                {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
                {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
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


def run(folder: Path) -> list[dict[str, Any]]:
    """Merge by every case, print a table, and return its rows.

    Args:
        folder: A directory in which this can work.
    """
    rows = _measured(folder / "mergekit")
    print(_table(rows), flush=True)
    return rows


def _measured(folder: Path) -> list[dict[str, Any]]:
    """Return how far the values of each case are from mergekit's."""
    import git_theta_ext

    folder.mkdir()
    models = _trained(folder)
    base, *sides = models.values()
    rows = []
    for name, case in CASES.items():
        theirs = _mergekit(folder, case)
        ours = git_theta_ext.merge(sides, base=base, rules=f"version: 1\n{case.rules}", device="cpu")
        rows.append({"merge": name, "method": case.method, **_difference(base, ours, theirs)})
    for name, (ours, theirs, before) in stacked(folder).items():
        rows.append({"merge": name, "method": "slices", **_difference(before, ours, theirs)})
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    columns = ["merge", "values", "with the same bits", "largest difference, of the largest change of its tensor"]
    cells = [
        [row["merge"], str(row["values"]), f"{row['same'] / row['values']:.1%}", f"{row['largest']:.1e}"]
        for row in rows
    ]
    return markdown(columns, cells)


def _difference(base: State, ours: State, theirs: State) -> dict[str, Any]:
    values = same = 0
    largest = 0.0
    for name, value in theirs.items():
        values += value.numel()
        same += int((ours[name] == value).sum())
        change = max(float((side[name] - base[name]).abs().max()) for side in (ours, theirs))
        largest = max(largest, float((ours[name] - value).abs().max()) / (change or 1.0))
    return {"values": values, "same": same, "largest": largest}


def _mergekit(folder: Path, case: Case) -> State:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge
    from safetensors.torch import load_file

    names = ("ours", "theirs")
    models: list[dict[str, Any]] = [{"model": str(folder / name), "parameters": dict(case.each)} for name in names]
    config: dict[str, Any] = {"merge_method": case.method, "models": models, "dtype": "float32"}
    config["parameters"] = dict(case.parameters)
    if case.base:
        config["base_model"] = str(folder / case.base)
    out = folder / "merged"
    run_merge(MergeConfiguration.model_validate(config), str(out), MergeOptions(copy_tokenizer=False, quiet=True))
    return load_file(out / "model.safetensors")


def _trained(folder: Path) -> dict[str, State]:
    """Train the base and both fine-tunes, save them as Transformers does, and return their values."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        max_position_embeddings=_LENGTH,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    states: dict[str, State] = {}
    for name, (page, seed) in _TEXTS.items():
        if states:
            model.load_state_dict(states["base"])
        _train(model, (_PAGES / page).read_bytes(), seed)
        states[name] = {key: value.clone() for key, value in model.state_dict().items()}
        model.save_pretrained(folder / name)
    return states


def _train(model: Any, text: bytes, seed: int) -> None:
    import torch

    drawn = torch.Generator().manual_seed(seed)
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(_STEPS):
        starts = torch.randint(len(data) - _LENGTH, (8,), generator=drawn)
        batch = torch.stack([data[start : start + _LENGTH] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
