"""LoRAs are extracted from versions of models: git theta applies them, and PEFT loads them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import ATTENTION, MODEL, Repo, model, safetensors, tensors, values

if TYPE_CHECKING:
    from pathlib import Path

ADAPTED, OTHER = ATTENTION[:2]
NORM = next(name for name, (_, shape, _) in tensors(1).items() if len(shape) == 1)


def tuned(path: Path, changes: dict[str, np.ndarray]) -> Path:
    """Write the small model of seed 1 with changes that are added."""
    content = tensors(1)
    for name, change in changes.items():
        kind, shape, data = content[name]
        new = np.frombuffer(data, "<f4").reshape(shape) + change
        content[name] = kind, shape, new.astype("<f4").tobytes()
    path.write_bytes(safetensors(content, {"format": "pt", "note": "kept to the byte"}))
    return path


def low_rank(rank: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.1 * rng.normal(size=(64, rank)) @ rng.normal(size=(rank, 64))


@pytest.fixture
def one(repo: Repo) -> Repo:
    """Return a repository whose HEAD has the small model of seed 1."""
    repo.write_model(seed=1)
    repo.commit("one")
    return repo


def test_an_extracted_lora_is_the_change_that_git_theta_applies(one: Repo, tmp_path: Path) -> None:
    file = tuned(tmp_path / "tuned.safetensors", {ADAPTED: low_rank(3, 1), OTHER: low_rank(5, 2), NORM: np.float32(1)})
    adapter = tmp_path / "adapter"
    words = ("theta", "extract", "--rank", "4", f"HEAD:{MODEL}", str(file), "-o", str(adapter), "--json")
    result = json.loads(one.git(*words))
    modules = [result["modules"].pop(name.removesuffix(".weight")) for name in (ADAPTED, OTHER)]
    assert ([module["rank"] for module in modules], result["modules"]) == ([3, 4], {})
    exact, lossy = (module["kept_energy"] for module in modules)
    assert exact > 1 - 1e-12
    assert 0.5 < lossy < 0.999
    assert list(result["left_out"]) == [NORM]
    assert 0 < result["kept_energy"] < lossy
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    one.git("theta", "add", MODEL, "--update", f"lora={adapter}")
    before = np.frombuffer(values(ADAPTED, 1), "<f4").reshape(64, 64)
    at = model(1).index(values(ADAPTED, 1))
    after = np.frombuffer(one.read()[at : at + before.nbytes], "<f4").reshape(64, 64)
    np.testing.assert_allclose(after, before + low_rank(3, 1), atol=1e-6)


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.filterwarnings("ignore")
def test_peft_loads_the_adapter_and_merges_it(tmp_path: Path, one: Repo) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import save_file
    from torch import nn

    def made() -> nn.Module:
        torch.manual_seed(0)
        inner = nn.Module()
        inner.q, inner.embed_tokens = nn.Linear(6, 5), nn.Embedding(9, 6)
        found = nn.Module()
        found.q, found.inner = nn.Linear(6, 8), inner
        return found

    old = made()
    change = {name: torch.randn(p.shape) for name, p in old.named_parameters() if name.endswith(".weight")}
    change["q.weight"] = torch.outer(torch.randn(8), torch.randn(6))  # of rank 1, so that ranks differ
    new = {name: value + change.get(name, 0) for name, value in old.state_dict().items()}
    save_file(old.state_dict(), tmp_path / "old.safetensors")
    save_file(new, tmp_path / "new.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("old", "new")]
    one.git("theta", "extract", *files, "-o", str(tmp_path / "adapter"))
    merged = PeftModel.from_pretrained(made(), tmp_path / "adapter").merge_and_unload().state_dict()
    assert set(merged) == set(new)
    for name, value in merged.items():
        torch.testing.assert_close(value, new[name], rtol=0, atol=1e-5)


def test_energy_chooses_the_ranks(one: Repo, tmp_path: Path) -> None:
    change = np.diag([4.0, 3.0, 2.0, 1.0, *[0.0] * 60])
    file = tuned(tmp_path / "tuned.safetensors", {ADAPTED: change})
    words = ("theta", "extract", "--energy", "0.8", f"HEAD:{MODEL}", str(file), "-o", str(tmp_path / "adapter"))
    assert one.git(*words).splitlines()[-1].split() == ["whole", "model", "2", "83.33%"]


@pytest.mark.parametrize("words", [["--rank", "0"], ["--energy", "0"], ["--energy", "1.1"], ["--param", "nothing"]])
def test_what_makes_no_sense_is_refused(one: Repo, tmp_path: Path, words: list[str]) -> None:
    file = tuned(tmp_path / "tuned.safetensors", {ADAPTED: low_rank(1, 1)})
    done = one.run("theta", "extract", *words, MODEL, str(file), "-o", str(tmp_path / "adapter"), check=False)
    assert done.returncode == 2
    assert not (tmp_path / "adapter").exists()


def test_an_existing_directory_and_equal_models_are_refused(one: Repo, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/mine").touch()
    done = one.run("theta", "extract", MODEL, MODEL, "-o", str(tmp_path / "adapter"), check=False)
    assert (done.returncode, "already exists" in done.stderr) == (2, True)
    done = one.run("theta", "extract", MODEL, MODEL, "-o", str(tmp_path / "other"), check=False)
    assert (done.returncode, "differs" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
