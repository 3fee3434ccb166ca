"""A LoRA that changed is one change of its update, with the scale that the adapter's configuration gives it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from adapters import lora_config, lora_tensors
from helpers import safetensors
from safetensors.numpy import load

if TYPE_CHECKING:
    import pytest
    from helpers import Repo

FILE, CONFIG = "run/adapter_model.safetensors", "run/adapter_config.json"


def update(repo: Repo, module: str, scale: float) -> np.ndarray:
    tensors = load(repo.read(FILE))
    return scale * tensors[f"{module}.lora_B.weight"].astype("f8") @ tensors[f"{module}.lora_A.weight"]


def test_commits_and_configurations(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.write(safetensors(lora_tensors(rank=4)), FILE)
    repo.write(json.dumps(lora_config()).encode(), CONFIG)
    # The library returns tensors in any order.
    module = min(name for name in load(repo.read(FILE)) if "lora_A" in name).removesuffix(".lora_A.weight")
    before = update(repo, module, 2)
    repo.commit("one")
    repo.write(safetensors(lora_tensors(rank=6)), FILE)
    repo.write(json.dumps(lora_config(r=6)).encode(), CONFIG)
    after = update(repo, module, 8 / 6)
    repo.commit("two")
    (found,) = json.loads(repo.git("theta", "diff", "--json", "HEAD~", "HEAD"))["models"]
    data = next(unit for unit in found["units"] if unit["name"] == module)["update"]
    np.testing.assert_allclose(
        [data["old"]["norm"], data["new"]["norm"], data["norm"]],
        [np.linalg.norm(before), np.linalg.norm(after), np.linalg.norm(after - before)],
    )
    assert (data["old"]["scale"], data["new"]["rank"], data["rank"]) == (2, 6, np.linalg.matrix_rank(after - before))
    by_file = repo.git("diff", "HEAD~", "HEAD", "--", FILE)
    assert "LoRA, rank 4 -> rank 6" in by_file
    assert "norm of B @ A" in by_file
    assert "git theta diff reads the scales" in by_file
    # Only the configuration differs: from the work tree, named by itself.
    repo.write(json.dumps(lora_config(r=6, lora_alpha=24)).encode(), CONFIG)
    monkeypatch.setenv("COLUMNS", "200")
    shown = repo.git("theta", "diff", "--", CONFIG)
    assert "LoRA, rank 6, alpha 8 -> 24, scale 1.33333 -> 4  2 modified" in shown
    assert "rel. change 2.0e+00" in shown
