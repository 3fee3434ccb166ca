"""Compressed files are diffed, merged and restored by the tensors in them."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load, save

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Repo, WithHistory

Arrays = dict[str, np.ndarray]


def _arrays(**changed: float) -> Arrays:
    layers = {f"layer{number}": np.arange(3000, dtype="f4") + number for number in range(3)}
    return {name: values + np.float32(changed.get(name, 0)) for name, values in layers.items()}


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


KINDS = {"npz": (_npz, _load_npz), "safetensors.gz": (_gzip, _load_gzip)}


@pytest.mark.parametrize("kind", KINDS)
def test_branches_that_change_compressed_files_are_merged_by_tensor(with_history: WithHistory, kind: str) -> None:
    write, read = KINDS[kind]
    path = f"model.{kind}"

    def tracked(repo: Repo) -> None:
        repo.git("init", "--quiet")
        repo.git("theta", "track", "*.npz", "*.gz")

    repo = with_history(tracked)
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
    merged, expected = read(repo.read(path)), _arrays(layer0=0.5, layer2=0.25)
    assert all((merged[name] == values).all() for name, values in expected.items())
    assert repo.git("status", "--porcelain") == ""
    repo.git("checkout", "--quiet", "HEAD~2")
    assert repo.problems(path, first) == []
