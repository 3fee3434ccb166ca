"""Files that each training writes anew, and compressed ones, are diffed, merged and restored by their tensors."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Repo, WithHistory

Arrays = dict[str, np.ndarray]


def _arrays(**changed: float) -> Arrays:
    layers = {f"layer{number}": np.arange(3000, dtype="f4") + number for number in range(3)}
    return {name: values + np.float32(changed.get(name, 0)) for name, values in layers.items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def _legacy(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    torch.save({"model": _tensors(arrays), "epoch": 3}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _load_legacy(data: bytes) -> Arrays:
    loaded = torch.load(io.BytesIO(data), weights_only=True)["model"]
    return {name: values.numpy() for name, values in loaded.items()}


class _Model(torch.nn.Module):
    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.layer0, self.layer1, self.layer2 = (torch.nn.Parameter(values) for _, values in sorted(tensors.items()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.layer0) * (x @ self.layer1) * (x @ self.layer2)


def _script(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(_Model(_tensors(arrays))), file)
    return file.getvalue()


def _load_script(data: bytes) -> Arrays:
    state = torch.jit.load(io.BytesIO(data)).state_dict()
    return {name: values.numpy() for name, values in state.items()}


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _load_npz(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data)) as loaded:
        return dict(loaded)


def _gzip(arrays: Mapping[str, np.ndarray]) -> bytes:
    return gzip.compress(save(dict(arrays)))


def _load_gzip(data: bytes) -> Arrays:
    return dict(load(gzip.decompress(data)))


KINDS = {
    "legacy.pt": (_legacy, _load_legacy),
    "script.pt": (_script, _load_script),
    "npz": (_npz, _load_npz),
    "safetensors.gz": (_gzip, _load_gzip),
}


def _tracked(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "*.pt", "*.npz", "*.gz")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", KINDS)
def test_branches_that_save_anew_are_merged_by_tensor(with_history: WithHistory, kind: str) -> None:
    write, read = KINDS[kind]
    path = f"model.{kind}"
    repo = with_history(_tracked)
    first = write(_arrays())
    repo.write(first, path)
    repo.commit("first")
    repo.git("branch", "side")
    repo.write(write(_arrays(layer0=0.5)), path)
    diff = repo.git("diff")
    assert "layer0" in diff
    assert "layer1" not in diff
    repo.commit("ours")
    repo.switch("side")
    repo.write(write(_arrays(layer2=0.25)), path)
    repo.commit("theirs")
    repo.git("merge", "--quiet", "--no-edit", "main")
    merged = read(repo.read(path))
    for name, values in _arrays(layer0=0.5, layer2=0.25).items():
        assert (merged[name] == values).all(), name
    assert repo.git("status", "--porcelain") == ""
    repo.git("checkout", "--quiet", "HEAD~2")
    assert repo.problems(path, first) == []
