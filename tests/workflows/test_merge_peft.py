"""Folders that PEFT saved are merged with git, and PEFT reads from the result the updates that the definition gives."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from helpers import Repo

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
FOLDER = "adapter"
MODULES = ["q", "inner.q", "k", "embedding", "convolution"]
BASE = {"r": 4, "lora_alpha": 8}
CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "both changed the rank": ({"r": 6, "lora_alpha": 8}, {"r": 3, "lora_alpha": 9}, "lora_concat"),
    "patterns and rslora": (
        {**BASE, "use_rslora": True},
        {**BASE, "rank_pattern": {"^q": 2}, "alpha_pattern": {r"inner\..*": 5, "k": 3}},
        "lora_concat",
    ),
    "the same": (BASE, BASE, "lora_svd"),
}


def model() -> torch.nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(0)
    inner = nn.Module()
    inner.q = nn.Linear(6, 5)
    made = nn.Module()
    made.q, made.k, made.inner = nn.Linear(6, 5), nn.Linear(7, 5), inner
    made.embedding, made.convolution = nn.Embedding(9, 6), nn.Conv2d(3, 5, (3, 2))
    return made


def save(repo: Repo, seed: int, settings: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Let PEFT save an adapter with drawn factors, and return its updates."""
    import torch
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model(), LoraConfig(target_modules=MODULES, **settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(repo.path / FOLDER, save_embedding_layers=False)
    (repo.path / FOLDER / "README.md").unlink(missing_ok=True)
    return updates(adapted)


def updates(adapted: torch.nn.Module) -> dict[str, torch.Tensor]:
    base = adapted.base_model.model
    return {name: base.get_submodule(name).get_delta_weight("default").detach().double() for name in MODULES}


@pytest.mark.parametrize(("ours", "theirs", "method"), CASES.values(), ids=CASES)
def test_peft_reads_the_mean_of_the_updates(
    repo: Repo, ours: dict[str, Any], theirs: dict[str, Any], method: str
) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel

        repo.git("theta", "track", "--preset", "peft")
        save(repo, 1, BASE)
        repo.commit("base")
        repo.git("branch", "side")
        one = save(repo, 2, ours)
        repo.commit("ours")
        repo.switch("side")
        other = save(repo, 3, theirs)
        repo.commit("theirs")
        repo.switch("main")
        repo.git("-c", f"theta.merge.method={method}", "merge", "side")
        found = updates(PeftModel.from_pretrained(model(), repo.path / FOLDER))
    for name in MODULES:
        wanted = (one[name] + other[name]) / 2
        if method == "lora_svd":
            u, s, v = torch.linalg.svd(wanted.flatten(1), full_matrices=False)
            wanted = (u[:, :4] * s[:4] @ v[:4]).reshape(wanted.shape)
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-4)
