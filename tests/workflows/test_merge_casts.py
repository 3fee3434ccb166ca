"""A branch that only converts parameters to other element types, merged and replayed with one that trains them."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import MODEL, Repo, WithHistory
from safetensors.torch import load, save

THIRD = 1 / 3
BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
Values = dict[str, tuple[float, torch.dtype]]
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def tensor(value: float, dtype: torch.dtype) -> torch.Tensor:
    """Return a value of float32 in a type: a wider type adds no digits."""
    return torch.full((8,), value, dtype=F32).to(dtype)


def write(repo: Repo, values: Values, path: str = MODEL) -> None:
    repo.write(save({name: tensor(*value) for name, value in values.items()}), path)


def found(repo: Repo, path: str = MODEL) -> Values:
    return {name: (each[0].item(), each.dtype) for name, each in load(repo.read(path)).items()}


BEFORE = {"a": (THIRD, F32), "b": (THIRD, F32), "c": (THIRD, F32), "d": (THIRD, F32)}
OURS = BEFORE | {"a": (THIRD, BF16), "c": (THIRD + 1, F32), "d": (THIRD + 3, F32)}
THEIRS = BEFORE | {"a": (THIRD + 2, F32), "b": (THIRD, F16), "c": (THIRD, F64), "d": (THIRD, F16)}
RESULT = {"a": (THIRD + 2, BF16), "b": (THIRD, F16), "c": (THIRD + 1, F64), "d": (THIRD + 3, F16)}


def _history(repo: Repo) -> None:
    for name, start, values in (("base", None, BEFORE), ("side", "base", THEIRS), ("main", "base", OURS)):
        repo.switch("-B", name, *([start] if start else []))
        write(repo, values)
        repo.commit(name)


@pytest.fixture
def casts(with_history: WithHistory) -> Repo:
    """Return a repository whose branches convert some parameters and train others."""
    return with_history(_history)


@pytest.mark.parametrize(
    "words", [("merge",), ("merge", "-s", "theta"), ("-c", "theta.merge.method=ties", "merge"), ("cherry-pick",)]
)
def test_training_is_taken_whole_in_the_type_that_the_other_branch_converted_to(
    casts: Repo, words: tuple[str, ...]
) -> None:
    done = casts.run(*words, "side")
    assert found(casts) == {name: (tensor(*value)[0].item(), value[1]) for name, value in RESULT.items()}
    assert "merged by" not in done.stderr
    assert f"{MODEL}: 'a': the change is taken as BF16" in done.stderr


def test_training_that_is_reverted_after_a_conversion_leaves_the_ancestor_in_the_new_type(repo: Repo) -> None:
    for value in ((1, F32), (3, F32), (3, BF16)):
        write(repo, {"w": value})
        repo.commit("next")
    repo.git("revert", "--no-edit", "HEAD~1")
    assert found(repo) == {"w": (1, BF16)}


def test_conversions_to_different_types_are_in_conflict(casts: Repo) -> None:
    casts.switch("-B", "third", "base")
    write(casts, BEFORE | {"b": (THIRD, BF16)})
    casts.commit("third")
    assert casts.run("merge", "side", check=False).returncode == 1
    listed = casts.run("theta", "resolve", MODEL, check=False).stdout
    assert "b  (the sides changed the element type to BF16 and F16)" in listed
    assert "1 parameter in conflict" in listed


@pytest.mark.parametrize("command", ["merge", "cherry-pick"])
def test_shards_that_one_branch_converts_have_the_training_of_the_other(repo: Repo, command: str) -> None:
    def shards(first: tuple[float, torch.dtype], second: tuple[float, torch.dtype], total: int) -> None:
        for path, name, value in zip(SHARDS, "ab", (first, second), strict=True):
            write(repo, {name: value}, path)
        index = {"metadata": {"total_size": total}, "weight_map": dict(zip("ab", SHARDS, strict=True))}
        repo.write(json.dumps(index, indent=2).encode(), "model.safetensors.index.json")
        repo.commit("shards")

    shards((THIRD, F32), (THIRD, F32), 64)
    repo.switch("-b", "side")
    shards((THIRD, BF16), (THIRD, BF16), 32)
    repo.switch("main")
    shards((THIRD + 1, F32), (THIRD, F32), 64)
    repo.git(command, "side")
    assert found(repo, SHARDS[0]) == {"a": (tensor(THIRD + 1, BF16)[0].item(), BF16)}
    assert found(repo, SHARDS[1]) == {"b": (tensor(THIRD, BF16)[0].item(), BF16)}
    assert json.loads(repo.read("model.safetensors.index.json"))["metadata"]["total_size"] == 32
