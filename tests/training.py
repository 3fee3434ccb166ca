"""Small models that were trained on: a history of versions such as repositories hold."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from helpers import Repo, Tensor, safetensors
from reports import Reports

from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import from_float, to_float
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WIDTH = 64
EMBEDDING = "embed.weight"

Model = dict[str, Tensor]


def fresh(seed: int = 0, kind: str = "BF16", layers: int = 3) -> Model:
    """Draw a model of some layers, about 50 KB each."""
    shapes = {EMBEDDING: (128, WIDTH)}
    for layer in range(layers):
        shapes[f"layers.{layer}.attention.weight"] = (WIDTH, 2 * WIDTH)
        shapes[f"layers.{layer}.mlp.weight"] = (2 * WIDTH, 2 * WIDTH)
        shapes[f"layers.{layer}.norm.bias"] = (WIDTH,)
    return {name: _tensor(kind, _draw(name, seed).normal(0, 0.05, shape)) for name, shape in shapes.items()}


def trained(model: Mapping[str, Tensor], seed: int, size: float = 2.5e-4, only: Iterable[str] = ("",)) -> Model:
    """Return a model a few optimiser steps later; parameters whose names hold none of the words in ``only`` stay."""
    words = tuple(only)
    return {
        name: _step(name, tensor, seed, size) if any(word in name for word in words) else tensor
        for name, tensor in model.items()
    }


def grown(model: Mapping[str, Tensor], rows: int = 16, seed: int = 0) -> Model:
    """Return a model whose embedding has some more rows."""
    kind, (count, width), data = model[EMBEDDING]
    more = _tensor(kind, _draw(EMBEDDING, seed).normal(0, 0.05, (rows, width)))[2]
    return {**model, EMBEDDING: (kind, (count + rows, width), data + more)}


def adapted(model: Mapping[str, Tensor], name: str, seed: int, rank: int = 2) -> Model:
    """Return a model into one matrix of which a LoRA was merged."""
    kind, shape, data = model[name]
    draw = _draw(name, seed)
    update = 1e-2 * draw.normal(size=(shape[0], rank)) @ draw.normal(size=(rank, shape[1]))
    return {**model, name: _tensor(kind, to_float(data, dtype(kind)).reshape(shape) + update)}


def cast(model: Mapping[str, Tensor], kind: str) -> Model:
    """Return a model in another element type."""
    return {
        name: _tensor(kind, to_float(data, dtype(old)).reshape(shape)) for name, (old, shape, data) in model.items()
    }


def wrapped(model: Mapping[str, Tensor], prefix: str = "model.") -> Model:
    """Return a model whose parameters have a prefix."""
    return {prefix + name: tensor for name, tensor in model.items()}


def saved(model: Mapping[str, Tensor]) -> bytes:
    """Return a model as a safetensors file."""
    return safetensors(model)


def differing(repo: Repo, commits: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """Return the commits whose checkpoints do not come back to the byte, as a checkout would write them.

    Args:
        repo: That holds them.
        commits: Path to content of every checkpoint of each commit.
    """
    place = repo.path.parent / "restored"
    wrong = []
    with Workspace.discover(Reports(), repo.path) as workspace:
        for commit, files in commits.items():
            found = {}
            for path, (_, manifest) in workspace.repo.manifests(commit).items():
                populate(manifest, workspace.store, place, Expected.at(place))
                found[path] = place.read_bytes()
            if found != files:
                wrong.append(commit)
    return wrong


def _draw(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _step(name: str, tensor: Tensor, seed: int, size: float) -> Tensor:
    kind, shape, data = tensor
    return _tensor(kind, to_float(data, dtype(kind)).reshape(shape) + _draw(name, seed).normal(0, size, shape))


def _tensor(kind: str, values: np.ndarray) -> Tensor:
    data = bytes(from_float(values.astype(np.float32).reshape(-1), dtype(kind)))
    return kind, values.shape, data
