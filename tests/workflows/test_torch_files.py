"""Files of torch that are written anew by each training: diffed, merged and restored by their tensors."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Repo, WithHistory

PATH = "model.pt"
Tensors = dict[str, torch.Tensor]


def _tensors(**changed: float) -> Tensors:
    layers = {f"layer{number}": torch.arange(3000.0) + number for number in range(3)}
    return {name: values + changed.get(name, 0) for name, values in layers.items()}


def _legacy(tensors: Mapping[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save({"model": dict(tensors), "epoch": 3}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _load_legacy(data: bytes) -> Tensors:
    loaded: Tensors = torch.load(io.BytesIO(data), weights_only=True)["model"]
    return loaded


class _Model(torch.nn.Module):
    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.layer0, self.layer1, self.layer2 = (torch.nn.Parameter(values) for _, values in sorted(tensors.items()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.layer0) * (x @ self.layer1) * (x @ self.layer2)


def _script(tensors: Mapping[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(_Model(tensors)), file)
    return file.getvalue()


def _load_script(data: bytes) -> Tensors:
    return dict(torch.jit.load(io.BytesIO(data)).state_dict())


KINDS = {"legacy": (_legacy, _load_legacy), "script": (_script, _load_script)}


def _tracked(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "*.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", KINDS)
def test_branches_that_save_anew_are_merged_by_tensor(with_history: WithHistory, kind: str) -> None:
    write, load = KINDS[kind]
    repo = with_history(_tracked)
    first = write(_tensors())
    repo.write(first, PATH)
    repo.commit("first")
    repo.git("branch", "side")
    repo.write(write(_tensors(layer0=0.5)), PATH)
    diff = repo.git("diff")
    assert "layer0" in diff
    assert "layer1" not in diff
    repo.commit("ours")
    repo.switch("side")
    repo.write(write(_tensors(layer2=0.25)), PATH)
    repo.commit("theirs")
    repo.git("merge", "--quiet", "--no-edit", "main")
    merged = load(repo.read(PATH))
    for name, values in _tensors(layer0=0.5, layer2=0.25).items():
        assert torch.equal(merged[name], values), name
    repo.git("checkout", "--quiet", "HEAD~2")
    assert repo.problems(PATH, first) == []
