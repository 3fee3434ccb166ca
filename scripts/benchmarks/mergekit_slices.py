"""Compare stacked layers with mergekit's slices: ``git theta stack`` and mergekit read the same configuration."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.mergekit_models import NAMES
from benchmarks.tools import THETA, Repository, environment

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    State = dict[str, torch.Tensor]

_RANGES = ((0, 3), (1, 4), (2, 4))


def _slices(*rows: tuple[str, ...]) -> str:
    lines = ["slices:"]
    for row, (start, end) in zip(rows, _RANGES, strict=True):
        sources = [f'{{model: "@{model}", layer_range: [{start}, {end}]}}' for model in row]
        lines.append(f"  - sources: [{', '.join(sources)}]")
    return "\n".join([*lines, "dtype: float32\n"])


_EVERY = _slices(NAMES, NAMES, NAMES)
_TWO = _slices(*[("ours", "theirs")] * 3)
CASES = {
    "passthrough": f"{_slices(('base',), ('ours',), ('theirs',))}merge_method: passthrough\n",
    "slerp of slices": f"{_TWO}merge_method: slerp\nbase_model: '@ours'\nparameters: {{t: 0.4}}\n",
    "task_arithmetic of slices": f"{_EVERY}merge_method: task_arithmetic\nbase_model: '@base'\n"
    "parameters: {lambda: 0.3}\n",
}
"""Configurations, in which ``@`` precedes the names of models."""
_WEIGHTS = ("{lambda: 0.3}", "{weight: 1.0, lambda: 0.3}")
"""Parameters of git theta, and what mergekit needs besides."""


def stacked(folder: Path) -> dict[str, tuple[State, State, State]]:
    """Stack slices of models by both tools.

    Args:
        folder: A directory with the models ``base``, ``ours`` and ``theirs``, in which this can work.

    Returns:
        For each case, the values of git theta, and of mergekit, and those that the same layers have in the base.
    """
    repo = Repository(folder / "slices", THETA, environment(folder / "home"))
    for name in NAMES:
        shutil.copytree(folder / name, repo.path / name)
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--message", "models")
    before = _by_theta(repo, "before", _slices(*[("base",)] * 3).replace("@", "HEAD:"))
    found = {}
    for number, (case, text) in enumerate(CASES.items()):
        ours = _by_theta(repo, f"stack{number}", text.replace("@", "HEAD:"))
        theirs = _by_mergekit(folder, text.replace("@", f"{folder}/").replace(*_WEIGHTS))
        found[case] = (ours, theirs, before)
    return found


def _by_theta(repo: Repository, name: str, text: str) -> State:
    from safetensors.torch import load_file

    (repo.path / "slices.yml").write_text(text)
    repo.git("theta", "stack", "slices.yml", name)
    return load_file(repo.path / name / "model.safetensors")


def _by_mergekit(folder: Path, text: str) -> State:
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge
    from safetensors.torch import load_file

    out = folder / "stacked"
    shutil.rmtree(out, ignore_errors=True)
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    run_merge(config, str(out), MergeOptions(copy_tokenizer=False, quiet=True))
    return load_file(out / "model.safetensors")
