"""Checkpoints shaped like real transformers, with normal weights whose scale varies between tensors.

The sizes are those of the architectures. The standard deviations follow their initialisation (0.02, output projections
divided by the square root of twice the depth) with a spread per tensor, as after training. Exponents then have the same
entropy as in trained models: about 2.6 bits for bf16, which the stored ratio verifies.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """An architecture: element type, and the shapes of its parameters by name."""

    name: str
    dtype: str
    shapes: dict[str, Shape]


def llama(layers: int, width: int, inner: int, vocabulary: int) -> dict[str, Shape]:
    """Return the parameters of a decoder of the Llama family without grouped queries."""
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (vocabulary, width)}
    for n in range(layers):
        at = f"model.layers.{n}."
        shapes |= {f"{at}self_attn.{role}_proj.weight": (width, width) for role in "qkvo"}
        shapes |= {f"{at}mlp.{role}_proj.weight": (inner, width) for role in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{at}{norm}_layernorm.weight": (width,) for norm in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (width,)}


def bert(layers: int, width: int, vocabulary: int) -> dict[str, Shape]:
    """Return the parameters of an encoder of the BERT family."""
    shapes: dict[str, Shape] = {
        "embeddings.word_embeddings.weight": (vocabulary, width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for n in range(layers):
        at = f"encoder.layer.{n}."
        dense = {f"attention.self.{role}": (width, width) for role in ("query", "key", "value")}
        dense |= {"attention.output.dense": (width, width)}
        dense |= {"intermediate.dense": (4 * width, width), "output.dense": (width, 4 * width)}
        for role, shape in dense.items():
            shapes |= {f"{at}{role}.weight": shape, f"{at}{role}.bias": shape[:1]}
        for norm in ("attention.output", "output"):
            shapes |= {f"{at}{norm}.LayerNorm.{part}": (width,) for part in ("weight", "bias")}
    return shapes


FAMILIES = {
    "bf16": Family("1 GB bf16", "BF16", llama(layers=24, width=1280, inner=3424, vocabulary=32_000)),
    "fp32": Family("440 MB fp32", "F32", bert(layers=12, width=768, vocabulary=30_522)),
    "minilm": Family("91 MB fp32", "F32", bert(layers=6, width=384, vocabulary=30_522)),
    "tiny": Family("tiny bf16", "BF16", llama(layers=2, width=256, inner=684, vocabulary=1_000)),
    "tiny encoder": Family("tiny fp32", "F32", bert(layers=3, width=48, vocabulary=1_200)),
}


def weights(family: Family, name: str, seed: int, moved: float = 0.0, branch: int = 0) -> np.ndarray:
    """Draw a parameter as little-endian bit patterns, moved by normal steps of a branch with a standard deviation."""
    shape = family.shapes[name]
    generator = np.random.default_rng([seed, *name.encode()])
    scale = 0.02 * math.exp(generator.normal(0, 0.4))
    if name.endswith(("o_proj.weight", "down_proj.weight", "output.dense.weight")):
        scale /= math.sqrt(2 * 12)
    drawn = generator.standard_normal(math.prod(shape), dtype=np.float32) * np.float32(scale)
    if len(shape) == 1 and name.endswith("weight"):
        drawn += 1
    if moved:
        generator = np.random.default_rng([branch, seed, *name.encode()]) if branch else generator
        drawn += generator.standard_normal(drawn.size, dtype=np.float32) * np.float32(moved)
    return (drawn.view("<u4") >> 16).astype("<u2") if family.dtype == "BF16" else drawn.view("<u4")


def write(
    path: Path, family: Family, changed: dict[str, int] | None = None, moved: float = 0.0, branch: int = 0
) -> int:
    """Write a checkpoint of seed 0, and return its size in bytes.

    Args:
        path: The file to write.
        family: The architecture.
        changed: New seeds of the parameters that change.
        moved: Standard deviation of the steps by which all parameters move, as in a fine-tune.
        branch: Seed of these steps.
    """
    return save(path, family, lambda name: weights(family, name, (changed or {}).get(name, 0), moved, branch))


def save(path: Path, family: Family, patterns: Callable[[str], np.ndarray]) -> int:
    """Write a checkpoint, given the bit patterns of each parameter, and return its size in bytes."""
    item = 2 if family.dtype == "BF16" else 4
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in family.shapes.items():
        end = at + item * math.prod(shape)
        header[name] = {"dtype": family.dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in family.shapes:
            file.write(patterns(name).reshape(-1).data)
        return file.tell()
