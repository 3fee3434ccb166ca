"""Models of other formats than safetensors as sources of slices."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from helpers import Repo

NAMES = ("model.embed.weight", "model.layers.{}.mlp.weight", "model.norm.weight")
SLICES = """slices:
  - sources: [{model: "HEAD:one", layer_range: [0, 2]}]
  - sources: [{model: "HEAD:two", layer_range: [1, 2]}]
"""


def tensors(seed: int, names: tuple[str, str, str] = NAMES, layers: int = 2) -> dict[str, np.ndarray]:
    """Return a model: one tensor before its layers, one in each, and one after them."""
    every = [names[0], *(names[1].format(layer) for layer in range(layers)), names[2]]
    return {name: np.full((2, 2), seed + number, "<f4") for number, name in enumerate(every)}


def stacked(names: tuple[str, str, str] = NAMES) -> dict[str, np.ndarray]:
    one, two = tensors(0, names), tensors(100, names)
    middle = {names[1].format(n): value for n, value in enumerate([*list(one.values())[1:3], two[names[1].format(1)]])}
    return {names[0]: one[names[0]], **middle, names[2]: two[names[2]]}


def torch_file(content: Mapping[str, np.ndarray]) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({name: torch.from_numpy(value.copy()) for name, value in content.items()}, file)
    return file.getvalue()


def npz_file(content: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


def gguf_file(content: Mapping[str, np.ndarray], pairs: Mapping[str, bytes]) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    rows, data = [], b""
    for name, value in content.items():
        rows.append(text(name) + struct.pack("<IQQIQ", 2, 2, 2, 0, len(data)))
        data += value.tobytes() + bytes(16)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(content), len(pairs))
    head += b"".join(text(key) + value for key, value in pairs.items()) + b"".join(rows)
    return head + bytes(-len(head) % 32) + data


@pytest.mark.parametrize(
    ("write", "name"),
    [(torch_file, "pytorch_model.bin"), (torch_file, "model.pth"), (npz_file, "model.npz")],
    ids=["bin", "pth", "npz"],
)
def test_layers_of_other_formats_are_stacked_as_safetensors(
    repo: Repo, write: Callable[[Mapping[str, np.ndarray]], bytes], name: str
) -> None:
    repo.git("theta", "track", "*.bin", "*.pth", "*.npz")
    for folder, seed in (("one", 0), ("two", 100)):
        repo.write(write(tensors(seed)), f"{folder}/{name}")
    repo.commit("models")
    repo.write(SLICES.encode(), "slices.yml")
    repo.git("theta", "stack", "slices.yml", "deep")
    found = load(repo.read("deep/model.safetensors"))
    assert found.keys() == stacked().keys()
    assert all(np.array_equal(found[key], value) for key, value in stacked().items())


GGUF_NAMES = ("token_embd.weight", "blk.{}.ffn.weight", "output_norm.weight")
PAIRS = {"llama.block_count": struct.pack("<II", 4, 2), "llama.context_length": struct.pack("<II", 4, 512)}


def test_gguf_stays_gguf_with_the_new_number_of_layers(repo: Repo) -> None:
    repo.git("theta", "track", "*.gguf")
    for folder, seed in (("one", 0), ("two", 100)):
        repo.write(gguf_file(tensors(seed, GGUF_NAMES), PAIRS), f"{folder}/model.gguf")
    repo.commit("models")
    repo.write(SLICES.encode(), "slices.yml")
    repo.git("theta", "stack", "slices.yml", "deep")
    pairs = {**PAIRS, "llama.block_count": struct.pack("<II", 4, 3)}
    assert repo.read("deep/model.gguf") == gguf_file(
        {name: stacked(GGUF_NAMES)[name] for name in (*tensors(0, GGUF_NAMES), "blk.2.ffn.weight")}, pairs
    )


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({}, "has no one key *.block_count"),
        ({**PAIRS, "llama.heads": struct.pack("<IIQII", 9, 4, 2, 1, 1)}, "llama.heads has a value for each layer"),
    ],
)
def test_gguf_whose_header_cannot_be_renumbered_is_refused(
    repo: Repo, pairs: Mapping[str, bytes], message: str
) -> None:
    repo.git("theta", "track", "*.gguf")
    for folder, seed in (("one", 0), ("two", 100)):
        repo.write(gguf_file(tensors(seed, GGUF_NAMES), pairs), f"{folder}/model.gguf")
    repo.commit("models")
    repo.write(SLICES.encode(), "slices.yml")
    done = repo.run("theta", "stack", "slices.yml", "deep", check=False)
    assert message in done.stderr
    assert not (repo.path / "deep").exists()


def test_a_tensor_that_is_a_part_of_another_is_not_taken_for_a_whole_one(repo: Repo) -> None:
    import torch

    repo.git("theta", "track", "*.pth")
    for folder in ("one", "two"):
        state = {name: torch.from_numpy(value.copy()) for name, value in tensors(0).items()}
        state["model.norm.weight"] = torch.arange(6.0).reshape(2, 3).T
        file = io.BytesIO()
        torch.save(state, file)
        repo.write(file.getvalue(), f"{folder}/model.pth")
    repo.commit("models")
    repo.write(SLICES.encode(), "slices.yml")
    done = repo.run("theta", "stack", "slices.yml", "deep", check=False)
    assert (done.returncode != 0, "'model.norm.weight'" in done.stderr) == (True, True)
