"""The factors of an adapter and the configuration beside them are merged such that they fit each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load, save

if TYPE_CHECKING:
    from helpers import Repo

FOLDER = "adapter"
FILE, CONFIG = f"{FOLDER}/adapter_model.safetensors", f"{FOLDER}/adapter_config.json"
A, B = (f"base_model.model.l.lora_{factor}.weight" for factor in "AB")


def write(repo: Repo, seed: int, rank: int, alpha: float, **settings: str) -> np.ndarray:
    """Write an adapter and return its update."""
    drawn = np.random.default_rng(seed)
    factors = {A: drawn.normal(size=(rank, 6)).astype("f4"), B: drawn.normal(size=(5, rank)).astype("f4")}
    repo.write(save(factors), FILE)
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["l"], "lora_alpha": alpha, **settings}
    repo.write(json.dumps(config, indent=1).encode(), CONFIG)
    return update(repo)


def update(repo: Repo) -> np.ndarray:
    factors, config = load(repo.read(FILE)), json.loads(repo.read(CONFIG))
    assert factors[A].shape[0] == config["r"]
    return config["lora_alpha"] / config["r"] * factors[B].astype("f8") @ factors[A]


def fork(repo: Repo, *sides: tuple[int, float]) -> np.ndarray:
    """Make two branches of an adapter of rank 2 and alpha 4; return the mean of their updates."""
    write(repo, 0, 2, 4)
    repo.commit("base")
    repo.git("branch", "--force", "side")
    ours = write(repo, 1, *sides[0])
    repo.commit("ours")
    repo.switch("side")
    theirs = write(repo, 2, *sides[1])
    repo.commit("theirs")
    repo.switch("main")
    return (ours + theirs) / 2


def best(wanted: np.ndarray, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(wanted, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]


def test_a_configuration_that_one_side_changed_scales_the_merged_factors(repo: Repo) -> None:
    wanted = fork(repo, (2, 4), (3, 12))
    plan = json.loads(repo.git("theta", "merge", "--plan", "--json", "side"))["plans"]
    (planned,) = plan if isinstance(plan, list) else [plan]
    assert '"shape": [3, 6]' in json.dumps(planned)
    repo.git("merge", "side")
    np.testing.assert_allclose(update(repo), best(wanted, 3), rtol=1e-4, atol=1e-4)


def test_git_asks_to_finish_if_it_cannot_merge_the_configuration(repo: Repo) -> None:
    wanted = fork(repo, (2, 6), (2, 8))
    done = repo.run("merge", "side", check=False)
    assert done.returncode == 1
    assert f"git theta resolve {FOLDER}" in done.stderr
    resolved = repo.git("theta", "resolve", FOLDER)
    assert sorted(resolved.split()) == sorted(["resolved", FILE, "resolved", CONFIG])
    assert (config_of(repo)["r"], config_of(repo)["lora_alpha"]) == (2, 6)
    np.testing.assert_allclose(update(repo), best(wanted, 2), rtol=1e-4, atol=1e-4)
    repo.git("commit", "--no-edit")
    assert repo.problems(FILE, repo.read(FILE)) == []


@pytest.mark.parametrize(("method", "rank"), [("lora_svd", 3), ("lora_concat", 5)])
def test_the_driver_writes_a_configuration_that_fits_the_factors(repo: Repo, method: str, rank: int) -> None:
    with (repo.path / ".gitattributes").open("a") as attributes:
        attributes.write("adapter_config.json merge=theta\n")
    wanted = fork(repo, (2, 6), (3, 8))
    repo.git("-c", f"theta.merge.method={method}", "merge", "side")
    assert config_of(repo)["r"] == rank
    np.testing.assert_allclose(update(repo), best(wanted, rank), rtol=1e-4, atol=1e-4)
    assert repo.git("status", "--porcelain") == ""
    assert repo.run("theta", "merge", "--replay", "HEAD", check=False).returncode == 0


def test_the_strategy_writes_both_files(repo: Repo) -> None:
    wanted = fork(repo, (2, 4), (3, 8))
    repo.git("merge", "-s", "theta", "-X", "method=lora_concat", "side")
    assert config_of(repo)["r"] == 5
    np.testing.assert_allclose(update(repo), wanted, rtol=1e-4, atol=1e-4)
    described = "\n  adapter: LoRA, 1 module, r 5, alpha 8 (scale 1.6)\n"
    assert all(described in repo.git("theta", "show", f"HEAD:{name}") for name in (FOLDER, FILE))


@pytest.mark.parametrize(("command", "side"), [("merge", "theirs"), ("rebase", "ours")])
def test_a_side_is_taken_with_its_configuration(repo: Repo, command: str, side: str) -> None:
    write(repo, 0, 2, 4)
    repo.commit("base")
    repo.git("branch", "side")
    write(repo, 1, 2, 6, base_model_name_or_path="a/one")
    repo.commit("ours")
    repo.switch("side")
    wanted = write(repo, 2, 3, 8, base_model_name_or_path="a/other")
    config = repo.read(CONFIG)
    repo.commit("theirs")
    repo.switch("main")
    assert repo.run(command, "side", check=False).returncode == 1
    repo.git("theta", "resolve", "--method", side, FOLDER)
    assert repo.read(CONFIG) == config
    assert (update(repo) == wanted).all()
    assert "U" not in repo.git("status", "--porcelain")


def config_of(repo: Repo) -> dict[str, Any]:
    return json.loads(repo.read(CONFIG))
